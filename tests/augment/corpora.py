"""A small corpus as the corpus stage leaves it: texts with code in them, a conversation, two held-out splits."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llmtune.corpus.store import Document, Message, write_split
from llmtune.files import write_json

TEXT = """\
## {number}. Settings of `part_{number}`

The planner estimates the cost of each path for {number} tables. Set `work_mem_{number}` to {number}.5 MB before you \
run VACUUM on a large table. See http://host.org/{number}?a=b for all of the other settings.

```sql
SELECT the cost of each path FROM tables WHERE id = {number};
```

- Indexes make reading of rows faster and writing of rows slower.
- Create only the indexes that your queries {{name}} really use.

| setting | what it does |
| --- | --- |
| `a_{number}` | says how many of the rows are read |
"""


def text(number: int) -> Document:
    return document(f"docs/{number}.md", TEXT.format(number=number))


def document(identity: str, content: str, **fields: str) -> Document:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    known = {"source": "docs", "licence": "MIT", "group": sha256[:16]} | fields
    return Document(identity, content, None, sha256=sha256, **known)


def chat(number: int) -> Document:
    turns = (Message("user", f"What is the cost of path {number} for us?"), Message("assistant", "It is estimated."))
    return Document(f"chat#{number}", None, turns, "chat", None, f"{number:064x}", f"{number}")


def corpus_of(folder: Path, documents: list[Document], held_out: int = 100) -> Path:
    """The corpus of these training documents, and a text in each of the other splits."""
    splits = {"train": documents, "valid": [text(held_out)], "test": [text(held_out + 1)]}
    sizes = {}
    for split, found in splits.items():
        write_split(folder, split, found)
        texts = [one.text or "" for one in found]
        sizes[split] = {
            "documents": len(found),
            "groups": len({one.group for one in found}),
            "characters": sum(map(len, texts)),
            "bytes": sum(len(one.encode()) for one in texts),
        }
    total = {key: sum(size[key] for size in sizes.values()) for key in sizes["train"]}
    licences = {"MIT": total["documents"]}
    write_json(folder / "card.json", {"sources": [], "splits": sizes, "total": total, "licences": licences})
    return folder
