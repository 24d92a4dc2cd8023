"""Trim a checkpoint to one sentence, for the tests of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmtune.compress.trim_vocabulary import trim_vocabulary
from llmtune.corpus.store import Document, write_split
from llmtune.files import empty_folder, read_json, write_json
from llmtune.monitor import Monitor
from tests.tiny import TEXT

SIZE = 512
ROWS = 486  # the tokens that there are in TEXT; models of SIZE have rows for a few more
SEEN = TEXT[0]  # of all tokens, those of one sentence are in the corpus


class Noting(Monitor):
    """Keeps the notes; asks to stop at a safe point by its number."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.notes: list[str] = []
        self.stop_at, self.points = stop_at, 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stop_requested(self) -> bool:
        self.points += 1
        return self.points == self.stop_at


def trim(
    checkpoint: Path, folder: Path, corpus: Path | None = None, monitor: Monitor | None = None
) -> tuple[Path, dict[str, Any]]:
    """The trimmed checkpoint in `folder` and its figures; of a corpus of SEEN where none is given. What it keeps for a
    second try is in the folder too."""
    if corpus is None:
        corpus = folder / "corpus"
        for split, many in (("train", 4), ("valid", 1)):
            documents = [Document(f"{split}{n}", SEEN, None, "s", None, "", str(n)) for n in range(many)]
            write_split(corpus, split, documents)
    output = empty_folder(folder / "output")
    return output, trim_vocabulary(checkpoint, output, corpus=corpus, at_least=1, work=folder / "work", monitor=monitor)


def with_added(checkpoint: Path, content: str, number: int, **changes: Any) -> None:
    """Give a checkpoint's tokenizer.json one more added token, and other parts."""
    spec = read_json(checkpoint / "tokenizer.json")
    spec["added_tokens"].append(spec["added_tokens"][-1] | {"id": number, "content": content})
    write_json(checkpoint / "tokenizer.json", spec | changes)
