"""Instruction pairs: a corpus → the corpus with conversations made from its documents.

    ask_for_all  with `generate`: a model's replies to passages, kept in the work folder (asking.py)
    made_of      a document's drafts by rule (headings.py, definitions.py, code.py), each judged by itself (gate.py)
    sheets       the same of all documents, in the work folder (sheet.py)
    Choice       which of them all are kept, and how often they are read (choose.py)
    _write       each split: its documents, behind them their pairs

(Instructions made from documents: Köksal et al. 2023, arXiv:2304.08460; Cheng et al. 2024, arXiv:2309.09530, by rule.)
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from llmtune.augment.instruct import words
from llmtune.augment.instruct.asking import ask_for_all
from llmtune.augment.instruct.choose import Choice
from llmtune.augment.instruct.code import code_drafts
from llmtune.augment.instruct.definitions import definition_drafts
from llmtune.augment.instruct.draft import Draft
from llmtune.augment.instruct.gate import fault
from llmtune.augment.instruct.generate import REPLIES_VERSION, Replies, generated
from llmtune.augment.instruct.headings import heading_drafts
from llmtune.augment.instruct.outline import sections_of
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.augment.instruct.sheet import Judged, Sheet, read_sheets, sheet_of, write_sheets
from llmtune.augment.instruct.tally import Tally, card_of, metrics_of, section_of
from llmtune.augment.instruct.wording import wording_of
from llmtune.corpus.dropped import CONTAMINATED
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.store import SPLITS, Document, Message, named, read_split, write_split
from llmtune.corpus.text import content_hash
from llmtune.errors import LlmtuneError
from llmtune.files import content_fingerprint, fingerprint, read_json, write_json
from llmtune.monitor import Monitor

_REPLIES = "replies.sqlite"
_MARK = "#instruct-"


def instruct(
    corpus: Path, settings: InstructSettings, output: Path, work: Path, seed: int, monitor: Monitor | None = None
) -> dict[str, Any]:
    """Write the corpus with the pairs into the folder `output`; returns its metrics. `work` keeps what was made, so
    that a job that was stopped or killed goes on there and ends in the same bytes; others may use it as well.

    Raises LlmtuneError when there are pairs already, none could be made, the endpoint fails or, with `on_error: fail`,
    at the first passage without a usable reply; Stopped."""
    monitor = monitor or Monitor()
    if settings.keep_documents:
        _refuse_pairs(corpus)
    replies = Replies(work / _REPLIES, settings.generate) if settings.generate else None
    unanswered: dict[str, str] = {}
    try:
        if settings.generate and replies:
            unanswered = ask_for_all(corpus, settings.generate, replies, seed, monitor)
        place = work / _name(corpus, settings, unanswered)
        for split in SPLITS:
            write_sheets(corpus, split, place / split, partial(_sheet, settings, replies, unanswered), monitor)
    finally:
        if replies:
            replies.close()
    card = read_json(corpus / "card.json")
    read = card["splits"]["train"].get("characters_read", card["splits"]["train"]["characters"])
    choice = Choice(settings, lambda split: read_sheets(place / split), partial(_size, settings), read, seed)
    tally = Tally(settings, seed)
    _write(corpus, settings, choice, output, tally)
    for sentence in tally.skipped():
        monitor.note(sentence)
    if not tally.pairs["train"]:
        raise LlmtuneError(
            f"no pair could be made from the train split: {tally.sentence() or 'its documents have no such structure'}",
            where=str(corpus),
            fix="loosen `instruct`'s settings (rules, min_answer, max_answer), or leave the stage out",
        )
    if not choice.reached:
        monitor.note(
            f"The pairs are read {choice.often:g} times an epoch, and still make less than `share`: {settings.share}"
        )
    for split in ("valid", "test"):
        if not (settings.keep_documents or tally.pairs[split]):
            monitor.note(f"The {split} split is empty: no pair could be made from its documents")
    card = card_of(card, settings, tally)
    write_json(output / "card.json", card)
    write_json(output / "samples.json", tally.samples())
    section_of(tally).write(output)
    return metrics_of(card)


def made_of(document: Document, settings: InstructSettings) -> tuple[Judged, ...] | None:
    """The drafts of a document, and what is wrong with each; None where its text is not English."""
    text = document.text or ""
    if not words.is_english(text):
        return None
    sections, wording = sections_of(text), wording_of(text)
    drafts: dict[str, Iterator[Draft]] = {
        "headings": heading_drafts(sections, wording, settings.subject, settings.max_answer),
        "definitions": definition_drafts(sections, wording, settings.subject),
        "code": code_drafts(sections, wording, settings.subject),
    }
    found = []
    for one in chain.from_iterable(drafts[rule] for rule in settings.rules):
        asked = words.with_subject(one.question, settings.subject)
        draft = Draft(one.rule, asked, one.answer, one.said)
        found.append(Judged(draft, fault(draft, settings.min_answer, settings.max_answer)))
    return tuple(found)


def _sheet(
    settings: InstructSettings, replies: Replies | None, unanswered: Mapping[str, str], document: Document
) -> Sheet:
    judged = made_of(document, settings)
    if replies is not None:
        judged = (*(judged or ()), *generated(document, settings, replies, unanswered))
    return sheet_of(document, judged)


def _write(corpus: Path, settings: InstructSettings, choice: Choice, output: Path, tally: Tally) -> None:
    """The splits on disk."""
    for split in SPLITS:
        documents = read_split(corpus, split) if settings.keep_documents else iter(())
        write_split(output, split, chain(documents, _pairs(split, settings, choice, tally)))
    for name in (DROPPED, CONTAMINATED):
        if (corpus / name).exists():
            shutil.copyfile(corpus / name, output / name)


def _pairs(split: str, settings: InstructSettings, choice: Choice, tally: Tally) -> Iterator[Document]:
    """The pairs of a split, told of to the tally."""
    for sheet, found in choice.judged(split):
        made = [(one, None if one.reason else _pair(sheet, one.draft, settings, choice.often)) for one in found]
        tally.add(split, sheet, made)
        yield from (pair for _, pair in made if pair is not None)


def _refuse_pairs(corpus: Path) -> None:
    """Raises LlmtuneError where the corpus has pairs of ours, which new ones would stand beside."""
    for split in SPLITS:
        for identity, *_ in named(corpus, split):
            if _MARK in identity:
                raise LlmtuneError(
                    f"this corpus holds pairs made from its documents already: {identity}",
                    where=str(corpus),
                    fix="take the corpus from before (`from:`)",
                )


def _name(corpus: Path, settings: InstructSettings, unanswered: Mapping[str, str]) -> str:
    """Of the sheets in the work folder: other documents or settings have others, and so has a passage that was asked
    about again and has its reply now."""
    told = settings.model_dump(mode="json", include=set(InstructSettings.model_fields))
    of_replies = [REPLIES_VERSION] if settings.generate else []
    return fingerprint([told, content_fingerprint([corpus]), *of_replies, *([dict(unanswered)] if unanswered else [])])


def _pair(sheet: Sheet, draft: Draft, settings: InstructSettings, often: float) -> Document:
    messages = _messages(draft, settings)
    name = hashlib.sha256(f"{draft.question}\0{draft.answer}".encode()).hexdigest()[:12]
    return Document(
        f"{sheet.id}{_MARK}{draft.rule}-{name}",
        None,
        messages,
        sheet.source,
        sheet.licence,
        content_hash(None, messages),
        sheet.group,
        sheet.id,
        sheet.repeats * often,
    )


def _messages(draft: Draft, settings: InstructSettings) -> tuple[Message, ...]:
    system = (Message("system", settings.system),) if settings.system else ()
    return (*system, Message("user", draft.question), Message("assistant", draft.answer))


def _size(settings: InstructSettings, one: Judged) -> int:
    """Characters of the pair."""
    return sum(len(message.content) for message in _messages(one.draft, settings))
