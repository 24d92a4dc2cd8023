"""Pairs that a model writes from a passage, and the check that the passage says what they say.

What the model said of a passage is kept in the work folder by the content of the request, so that a job that was killed
asks for nothing twice and, going on, makes the same pairs.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from llmtune.augment.instruct.draft import GENERATED, Draft
from llmtune.augment.instruct.gate import OF_PASSAGE, REFUSED, RUBBISH, UNANSWERED, UNSUPPORTED, fault
from llmtune.augment.instruct.outline import sections_of
from llmtune.augment.instruct.passages import passages_of
from llmtune.augment.instruct.reply import pairs_in
from llmtune.augment.instruct.settings import GenerateSettings, InstructSettings
from llmtune.augment.instruct.sheet import Judged
from llmtune.augment.instruct.support import support, unsupported
from llmtune.corpus.store import Document

SYSTEM = (
    "You write questions and answers for training an assistant. Use only what the passage says. Each question must be "
    "understood by somebody who does not see the passage, so name what it is about and never speak of 'the passage', "
    "'the text' or 'the above'. Each answer must be complete, correct and in the language of the passage. Reply with a "
    'JSON list and nothing else: [{"question": "…", "answer": "…"}]'
)
_OF_PASSAGE = re.compile(
    r"\b(?:the|this) (?:(?:passage|excerpt)|(?:text|document|author|section) (?:says|states|mentions|explains))\b|"
    r"\b(?:in|to) (?:the|this) (?:given |above )?text\b",
    re.IGNORECASE,
)
# Before 1 an empty reply was also what was none, before 2 refusals were kept of an endpoint that refused everything.
REPLIES_VERSION = 2


class Replies:
    """What the model said, by a hash of the request; SQLite in the work folder."""

    def __init__(self, file: Path, settings: GenerateSettings) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._base = sqlite3.connect(file, isolation_level=None)
        # A killed process loses nothing that was written; the log of it makes a commit cheap.
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.execute("CREATE TABLE IF NOT EXISTS replies (request BLOB PRIMARY KEY, reply TEXT) WITHOUT ROWID")
        if self._base.execute("PRAGMA user_version").fetchone()[0] < REPLIES_VERSION:
            self._base.execute("DELETE FROM replies WHERE reply IS NULL OR reply = ''")
            self._base.execute(f"PRAGMA user_version = {REPLIES_VERSION}")

    def close(self) -> None:
        self._base.close()

    def __contains__(self, passage: str) -> bool:
        return (
            self._base.execute("SELECT 1 FROM replies WHERE request = ?", (self._key(passage),)).fetchone() is not None
        )

    def __getitem__(self, passage: str) -> str | None:
        """The reply; None where the endpoint refused. Raises KeyError where the passage was not sent."""
        row = self._base.execute("SELECT reply FROM replies WHERE request = ?", (self._key(passage),)).fetchone()
        if row is None:
            raise KeyError(passage)
        return None if row[0] is None else str(row[0])

    def __setitem__(self, passage: str, reply: str | None) -> None:
        self._base.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (self._key(passage), reply))

    def _key(self, passage: str) -> bytes:
        request = (self._settings.url, self._settings.model, SYSTEM, wanted(passage, self._settings))
        return hashlib.sha256("\0".join(request).encode()).digest()


def generated(
    document: Document, settings: InstructSettings, replies: Replies, unanswered: Mapping[str, str]
) -> Iterator[Judged]:
    """What the model wrote about a document, judged. unanswered: passages without a reply, and what the endpoint did
    instead."""
    assert settings.generate is not None
    for passage in passages_in(document, settings.generate):
        if passage in unanswered:
            yield Judged(Draft(GENERATED, "", unanswered[passage], passage), UNANSWERED)
            continue
        reply = replies[passage]
        pairs = pairs_in(reply) if reply is not None else None
        if pairs is None:
            reason = REFUSED if reply is None else RUBBISH
            yield Judged(Draft(GENERATED, "", (reply or "")[: settings.max_answer], passage), reason)
            continue
        for question, answer in pairs[: settings.generate.pairs_per_passage]:
            draft = Draft(GENERATED, question, answer, passage)
            yield Judged(draft, _fault(draft, settings, settings.generate.min_support))


def _fault(draft: Draft, settings: InstructSettings, least: float) -> str | None:
    reason = fault(draft, settings.min_answer, settings.max_answer)
    if reason is None and _OF_PASSAGE.search(f"{draft.question} {draft.answer}"):
        return OF_PASSAGE
    if reason is None and (
        unsupported(f"{draft.question}\n{draft.answer}", draft.said) or support(draft.answer, draft.said) < least
    ):
        return UNSUPPORTED
    return reason


def wanted(passage: str, settings: GenerateSettings) -> str:
    return f"Write {settings.pairs_per_passage} questions with their answers from this passage:\n\n{passage}"


def passages_in(document: Document, settings: GenerateSettings) -> list[str]:
    if document.text is None or document.origin is not None:
        return []
    return passages_of(sections_of(document.text), settings.passages_per_document)
