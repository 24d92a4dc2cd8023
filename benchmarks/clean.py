"""What the clean-up takes out of web pages beside trafilatura, and how fast it is.

    python benchmarks/clean.py [--docs /usr/share/doc]

Needs `pip install trafilatura lxml_html_clean` and Debian's packages git-doc, libxslt1-dev, valgrind, debmake-doc,
nodejs, postgresql-doc-15 and debian-policy. `boilerplate_pages.json` holds, for 30 of their pages, sentences of the
body and lines of furniture (menus, footers) that a person picked. Each package is one source. Counted is how many of
them are left: as read, after the clean-up with its defaults, and by trafilatura. Then the speed of each part on the
text of the PostgreSQL pages, in characters a second of one core. Ends with status 1 when the clean-up lost a sentence
that the reader gave, or is slower than 5 million characters a second.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import trafilatura

from llmtune.corpus.clean.boilerplate import Boilerplate, LineCounts
from llmtune.corpus.clean.changes import Changes
from llmtune.corpus.clean.hyphens import Hyphens, count_words
from llmtune.corpus.clean.mojibake import mend_mojibake
from llmtune.corpus.clean.pii import find_pii
from llmtune.corpus.clean.settings import CleanSettings
from llmtune.corpus.clean.source import FirstLook, SecondLook
from llmtune.corpus.clean.unicode import clean_text
from llmtune.corpus.intake import everything
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source
from llmtune.corpus.sources import FileOf

PAGES = Path(__file__).with_name("boilerplate_pages.json")
LEAST = 5e6  # characters a second
Read = list[tuple[FileOf, RawDocument]]


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("/usr/share/doc"))
    docs = parser.parse_args().docs
    marked: dict[str, dict[str, list[str]]] = json.loads(PAGES.read_text(encoding="utf-8"))
    packages = sorted({page.partition("/")[0] for page in marked})
    read = {package: _read(docs / package) for package in packages}
    left = {"as read": {}, "cleaned": {}, "trafilatura": {}}  # type: dict[str, dict[str, str]]
    for package in packages:
        left["as read"] |= {f"{package}/{file.name}": clean_text(raw.text or "") for file, raw in read[package]}
        left["cleaned"] |= {f"{package}/{name}": text for name, text in _cleaned(read[package])}
    for page in marked:
        html = (docs / page).read_text(encoding="utf-8", errors="replace")
        left["trafilatura"][page] = trafilatura.extract(html, include_tables=True) or ""

    print(f"{'':12} {'body sentences':>15} {'furniture':>12} {'characters':>12}")
    for how, texts in left.items():
        body, furniture = (
            [(page, line) for page, of in marked.items() for line in of[kind] if _plain(line) in _plain(texts[page])]
            for kind in ("body", "furniture")
        )
        total = [sum(len(of[kind]) for of in marked.values()) for kind in ("body", "furniture")]
        size = sum(len(texts[page]) for page in marked)
        print(f"{how:12} {len(body):>9} / {total[0]} {len(furniture):>7} / {total[1]} {size:>12,}")
    lost = [
        (page, line)
        for page, of in marked.items()
        for line in of["body"]
        if _plain(line) in _plain(left["as read"][page]) and _plain(line) not in _plain(left["cleaned"][page])
    ]
    for page, line in lost:
        print(f"lost in {page}: {line}")
    return int(bool(lost) or not _fast_enough(read["postgresql-doc-15"]))


def _read(folder: Path) -> Read:
    found = everything(Source(path=folder, format="html"))
    return [(file, raw) for file, raw in found if isinstance(raw, RawDocument)]


def _cleaned(read: Read) -> Iterator[tuple[str, str]]:
    """(name, text) of each page after the clean-up of the source that they make up."""
    settings, changes = CleanSettings(), Changes(0)
    first = FirstLook(settings, changes)
    seen = [(file, first(file.name, raw)) for file, raw in read]
    assert first.lines is not None
    assert first.words is not None
    assert settings.boilerplate is not None
    counts = Counter[str]()
    for _, raw in seen:
        counts.update(count_words(raw.text or "", first.words.wanted))
    repeated = first.lines.counted().repeated(settings.boilerplate)
    second = SecondLook(settings, changes, Boilerplate(repeated.tolist(), ()), Hyphens(counts))
    for file, raw in seen:
        cleaned = second(file.name, raw)
        if isinstance(cleaned, RawDocument):
            yield file.name, cleaned.text or ""


def _plain(text: str) -> str:
    """Letters and digits alone: the three write markup and spaces differently."""
    return re.sub(r"[\W_]+", "", text).lower()


def _fast_enough(read: Read) -> bool:
    texts = [raw.text or "" for _, raw in read]
    size = sum(map(len, texts))
    lines = LineCounts(0.2)
    for text in texts:
        lines.look(text, code=False)
    repeated = lines.counted().repeated(0.2).tolist()
    counted, boilerplate = LineCounts(0.2), Boilerplate(repeated, ())
    kinds = [kind for kind, action in CleanSettings().pii if action != "keep"]
    parts: dict[str, Callable[[str], object]] = {
        "mojibake": mend_mojibake,
        "Unicode": clean_text,
        "boilerplate, looking": lambda text: counted.look(text, code=False),
        "boilerplate, out": lambda text: boilerplate.strip(text, code=False),
        "personal data": lambda text: find_pii(text, kinds),
    }
    for name, part in parts.items():
        start = time.process_time()
        for text in texts:
            part(text)
        print(f"{name:24} {size / (time.process_time() - start) / 1e6:7.1f} million characters/s")
    start = time.process_time()
    for _ in _cleaned(read):
        pass
    rate = size / (time.process_time() - start)
    print(f"{'all':24} {rate / 1e6:7.1f} million characters/s")
    return rate >= LEAST


if __name__ == "__main__":
    sys.exit(main())
