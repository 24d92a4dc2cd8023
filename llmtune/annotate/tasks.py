"""What a person is given to label, and which documents of a corpus are chosen for it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from llmtune.corpus.store import SPLITS, Document, documents_of, tables_of
from llmtune.errors import LlmtuneError
from llmtune.seeds import seed_of
from llmtune.words import printable

CUT = " […]"  # ends a text of which only the beginning is shown


@dataclass(frozen=True)
class Task:
    """One text to label. group: near-duplicates of the corpus share one."""

    id: str
    text: str
    group: str


@dataclass(frozen=True)
class Place:
    """A document without its text."""

    id: str
    source: str
    group: str


def split_in(corpus: Path, split: str) -> None:
    """Raise LlmtuneError if the corpus has no such split."""
    known = [name for name in SPLITS if (corpus / name).is_dir()]
    if split not in known:
        raise LlmtuneError(f"there is no '{split}'", where="--split", fix=f"name one of: {', '.join(known)}")


def places_of(corpus: Path, split: str) -> Iterator[Place]:
    """The documents of a split, from three columns; raises BadArtifact for a damaged corpus."""
    for table in tables_of(corpus, split, ["id", "source", "group"]):
        for row in table.to_pylist():
            yield Place(**row)


def sample(places: Iterable[Place], number: int, seed: int) -> list[str]:
    """Ids of `number` documents (all, if there are fewer), as if drawn by chance and in an order by chance: each source
    gives its share of them and at least one, and one document of each group goes before the second of any. Documents
    added to the corpus later move few others into or out of it."""
    by_source: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_source[place.source].append(place)
    shares = _shares({source: len(of_it) for source, of_it in by_source.items()}, number)
    chosen = {id for source, of_it in by_source.items() for id in shuffled(of_it, seed)[: shares[source]]}
    # By another hash than the one that chose: of a large source only the lowest are taken by that, of one that gives
    # its single document whatever it has, which would so stand last.
    return shuffled((one for of_it in by_source.values() for one in of_it if one.id in chosen), seed, "annotate order")


def shuffled(places: Iterable[Place], seed: int, use: str = "annotate") -> list[str]:
    """Ids in an order by a hash of seed, use and id; the second document of a group behind the first of every other."""
    order = sorted(places, key=lambda place: seed_of(seed, use, place.id))
    seen: dict[str, int] = defaultdict(int)
    rank: dict[str, int] = {}  # of a document in its group
    for place in order:
        rank[place.id] = seen[place.group]
        seen[place.group] += 1
    return [place.id for place in sorted(order, key=lambda place: rank[place.id])]


def _shares(sizes: dict[str, int], number: int) -> dict[str, int]:
    """How many each source gives: by size, at least one each while there is room, remainders to the largest."""
    number = min(number, sum(sizes.values()))
    total = max(1, sum(sizes.values()))
    exact = {source: number * size / total for source, size in sizes.items()}
    shares = {source: int(share) for source, share in exact.items()}
    # First a source that would have none, then the largest remainder; names make it one order.
    order = sorted(sizes, key=lambda source: (shares[source] > 0, shares[source] - exact[source], source))
    for source in order[: number - sum(shares.values())]:
        shares[source] += 1
    for source in (source for source in sorted(sizes) if shares[source] == 0):
        largest = max(sorted(shares), key=lambda name: shares[name])
        if shares[largest] > 1:
            shares[largest] -= 1
            shares[source] = 1
    return shares


def tasks_of(corpus: Path, splits: Sequence[str], ids: Collection[str], most_characters: int) -> list[Task]:
    """The documents with these ids as tasks, in the order of `ids`; those that are not there are left out."""
    wanted = pa.array(list(ids), pa.string())
    found: dict[str, Task] = {}
    for split in splits:
        for table in tables_of(corpus, split):
            for document in documents_of(table.filter(pc.is_in(table["id"], wanted))):
                text = shown_text(readable(document), most_characters)
                found[document.id] = Task(document.id, text, document.group)
    return [found[id] for id in ids if id in found]


def readable(document: Document) -> str:
    """The text of a document; of a conversation with who speaks."""
    if document.text is not None:
        return printable(document.text)
    return printable("\n\n".join(f"[{turn.role}] {turn.content}" for turn in document.messages or ()))


def shown_text(text: str, most_characters: int) -> str:
    """A text, or its beginning up to a white space, ended by CUT."""
    if len(text) <= most_characters:
        return text
    beginning = text[: most_characters + 1]
    if not beginning[-1].isspace():  # within a word, which is left out unless it is all there is
        words = beginning.rsplit(None, 1)
        beginning = words[0] if len(words) == 2 else beginning[:-1]
    return beginning.rstrip() + CUT


def is_beginning(shown: str, text: str) -> bool:
    """Whether `shown` is `text` or its beginning by `shown_text`, white space aside."""
    whole = " ".join(text.split())
    part = " ".join(shown.split())
    mark = CUT.strip()
    return part == whole or (part.endswith(mark) and whole.startswith(part.removesuffix(mark).rstrip()))


def text_hash(text: str) -> str:
    """16 hex digits of the SHA-256 of a text, white space aside: editors change line ends and trailing spaces."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]
