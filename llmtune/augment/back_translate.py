"""Back-translation: a corpus → the same corpus, and beside its training texts the same said in other words.

    drawn                     which documents of the train split, by a hash of their content
    translate                 their sentences, there and back, into the translation memory (memory.py)
    rewritten (rewrite.py)    a document with the sentences that pass the gate (gate.py) in the place of its own
    _write                    train with the new documents behind the old, valid and test as they are

Sentences come from `segments.py`; what they may not touch is masked by `protect.py`; who translates is an `Engine`.
(Sennrich et al. 2016, arXiv 1511.06709; as augmentation of text in one language: Xie et al. 2020, arXiv 1904.12848.)
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from llmtune.augment.describe import Tally, card_of, metrics_of, section_of
from llmtune.augment.engine import Engine
from llmtune.augment.gate import Gate
from llmtune.augment.memory import Memory
from llmtune.augment.rewrite import rewritten
from llmtune.augment.segments import Segment, pieces_of
from llmtune.augment.settings import BackTranslateSettings
from llmtune.corpus.dropped import CONTAMINATED
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.store import Document, read_split, write_split
from llmtune.corpus.text import content_hash
from llmtune.errors import LlmtuneError
from llmtune.files import read_json, write_json
from llmtune.monitor import Monitor

_MEMORY = "memory.sqlite"


@dataclass(frozen=True)
class Drawn:
    """Which documents are to be translated. sha256: of their texts; characters: in all."""

    sha256: Set[bytes]
    characters: int

    def __contains__(self, document: Document) -> bool:
        return _is_original_text(document) and bytes.fromhex(document.sha256) in self.sha256


def back_translate(
    corpus: Path,
    settings: BackTranslateSettings,
    engine: Engine,
    output: Path,
    work: Path,
    seed: int,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """Write the augmented corpus into the folder `output`; returns its metrics. `work` keeps the translations, so that
    a job that was stopped or killed translates nothing again.

    Raises LlmtuneError when there is nothing to translate, or the engine fails; MissingExtra; Stopped."""
    monitor = monitor or Monitor()
    documents = drawn(corpus, settings, seed)
    memory = Memory(work / _MEMORY, engine.identity)
    try:
        translate(corpus, documents, engine, memory, monitor)
        return _write(corpus, documents, settings, engine.identity, memory, output, seed, monitor)
    finally:
        memory.close()


def drawn(corpus: Path, settings: BackTranslateSettings, seed: int) -> Drawn:
    """The documents to translate: texts of the train split that are no augmentations themselves, in the order of a
    hash of seed and content, as long as they fit into the share or limit asked for."""
    sizes: dict[bytes, int] = {}
    conversations = 0
    suffix = _suffix(settings)
    for document in read_split(corpus, "train"):
        conversations += document.messages is not None
        if document.id.endswith(suffix):
            raise LlmtuneError(
                f"this corpus holds back-translations by way of '{settings.pivot}' already: {document.id}",
                where=str(corpus),
                fix="choose another pivot, or take the corpus from before (`from:`)",
            )
        if _is_original_text(document) and document.text:
            sizes[bytes.fromhex(document.sha256)] = len(document.text)
    if not sizes:
        which = "only conversations, which are left as they are" if conversations else "no text"
        raise LlmtuneError(
            f"there is nothing to translate: the train split holds {which}",
            where=str(corpus),
            fix="leave `back_translate` out of the recipe",
        )
    budget = settings.share * sum(sizes.values())
    budget = min(budget, settings.max_characters) if settings.max_characters is not None else budget
    chosen: set[bytes] = set()
    characters = 0
    for sha256 in sorted(sizes, key=lambda sha256: hashlib.sha256(f"{seed}\0".encode() + sha256).digest()):
        if characters + sizes[sha256] <= budget:
            chosen.add(sha256)
            characters += sizes[sha256]
    if not chosen:
        raise LlmtuneError(
            f"no document of the train split is as short as the {budget:,.0f} characters that may be translated",
            where="back_translate.share or .max_characters",
            fix=f"allow more; the shortest document has {min(sizes.values()):,} characters",
        )
    return Drawn(chosen, characters)


def translate(corpus: Path, documents: Drawn, engine: Engine, memory: Memory, monitor: Monitor) -> None:
    """Bring every sentence of the documents into the memory; what is in it already is not translated again."""
    with monitor.bar("translating", documents.characters, "characters") as bar:

        def sentences() -> Iterator[str]:
            for document in read_split(corpus, "train"):
                if document not in documents:
                    continue
                assert document.text is not None
                for piece in pieces_of(document.text):
                    bar.advance(len(piece if isinstance(piece, str) else piece.text))
                    if isinstance(piece, Segment):
                        yield piece.masked

        for number, group in memory.groups(sentences(), engine.together):
            memory.add(number, group, list(engine.round_trips(group)))
            monitor.safe_point()


def _write(
    corpus: Path,
    documents: Drawn,
    settings: BackTranslateSettings,
    engine: dict[str, Any],
    memory: Memory,
    output: Path,
    seed: int,
    monitor: Monitor,
) -> dict[str, Any]:
    """The corpus on disk, its card, its samples and its section of the report."""
    tally = Tally(settings, seed)
    gate = Gate(settings.keep)
    suffix = _suffix(settings)

    def augmented() -> Iterator[Document]:
        with monitor.bar("judging", documents.characters, "characters") as bar:
            for document in read_split(corpus, "train"):
                if document not in documents:
                    continue
                monitor.safe_point()
                assert document.text is not None
                made = rewritten(document.text, memory, gate)
                bar.advance(len(document.text))
                kept = made.changed >= settings.keep.min_changed and made.text != document.text
                new = replace(
                    document,
                    id=document.id + suffix,
                    text=made.text,
                    sha256=content_hash(made.text, None),
                    origin=document.id,
                )
                tally.add(document, new if kept else None, made.judged)
                if kept:
                    yield new

    write_split(output, "train", chain(read_split(corpus, "train"), augmented()))
    for split in ("valid", "test"):
        shutil.copytree(corpus / split, output / split)
    for name in (DROPPED, CONTAMINATED):
        if (corpus / name).exists():
            shutil.copyfile(corpus / name, output / name)
    if not tally.documents:
        monitor.note("no text was changed enough to be added: see the reasons in the card, or loosen `keep`")
    card = card_of(read_json(corpus / "card.json"), settings, engine, tally)
    write_json(output / "card.json", card)
    write_json(output / "samples.json", tally.samples())
    section_of(settings, tally).write(output)
    return metrics_of(card)


def _suffix(settings: BackTranslateSettings) -> str:
    return f"#back-translated-{settings.pivot}"


def _is_original_text(document: Document) -> bool:
    return document.text is not None and document.origin is None
