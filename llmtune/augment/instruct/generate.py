"""Pairs that a model writes from a passage, and the check that the passage says what they say.

What the model said of a passage is kept in the work folder by the content of the request, so that a job that was killed
asks for nothing twice and, going on, makes the same pairs.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

from llmtune.augment.instruct.draft import GENERATED, Draft
from llmtune.augment.instruct.endpoint import Endpoint
from llmtune.augment.instruct.gate import OF_PASSAGE, REFUSED, RUBBISH, UNSUPPORTED, fault
from llmtune.augment.instruct.outline import sections_of
from llmtune.augment.instruct.passages import passages_of
from llmtune.augment.instruct.reply import pairs_in
from llmtune.augment.instruct.settings import GenerateSettings, InstructSettings
from llmtune.augment.instruct.sheet import Judged
from llmtune.augment.instruct.support import support, unsupported
from llmtune.corpus.store import SPLITS, Document, read_split
from llmtune.errors import LlmtuneError
from llmtune.monitor import Monitor

_SYSTEM = (
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
REPLIES_VERSION = 1  # before, an empty reply was also what was none
_REFUSED_ALL = 20  # passages of which none had a reply: then one that nobody could refuse tells whose fault it is
# As long as a passage of English, so that a context that is too small refuses it too.
_HARMLESS = " ".join(["The library of the town opens at nine in the morning and closes at five in the afternoon."] * 22)
_LOOK = 1.0  # seconds between two looks whether to stop


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
            self._base.execute("DELETE FROM replies WHERE reply = ''")
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

    def said(self) -> bool:
        """Whether there is a reply that is no refusal."""
        return self._base.execute("SELECT 1 FROM replies WHERE reply IS NOT NULL LIMIT 1").fetchone() is not None

    def none_yet(self) -> bool:
        """Whether there is neither a reply nor a refusal."""
        return self._base.execute("SELECT 1 FROM replies LIMIT 1").fetchone() is None

    def forget(self) -> None:
        """Forget all of them, to be asked for again."""
        self._base.execute("DELETE FROM replies")

    def _key(self, passage: str) -> bytes:
        request = (self._settings.url, self._settings.model, _SYSTEM, _wanted(passage, self._settings))
        return hashlib.sha256("\0".join(request).encode()).digest()


def ask_for_all(corpus: Path, settings: GenerateSettings, replies: Replies, seed: int, monitor: Monitor) -> None:
    """Send every passage that has no reply yet, some at a time. Raises LlmtuneError when the endpoint fails; Stopped.

    What was answered is kept either way."""
    endpoint = Endpoint(settings)
    passages = _passages(corpus, settings, replies)
    total = sum(1 for _ in _passages(corpus, settings, replies))
    running: dict[Future[str | None], str] = {}
    refused, said, in_doubt = 0, replies.said(), False
    with monitor.bar("asking the model", total, "passages") as bar, ThreadPoolExecutor(settings.parallel) as pool:

        def send(passage: str) -> None:
            running[pool.submit(endpoint.ask, _SYSTEM, _wanted(passage, settings), seed)] = passage

        try:
            while True:
                room = settings.parallel - len(running) if said or refused < _REFUSED_ALL else 0
                for passage in islice(passages, room):
                    if passage not in running.values():
                        send(passage)
                if not running:
                    if said or in_doubt or replies.none_yet():
                        break
                    in_doubt = True
                    send(_HARMLESS)  # its reply is kept like others: started again, this is known
                done = wait(running, _LOOK, FIRST_COMPLETED).done
                for one in sorted(done, key=lambda one: one.exception() is not None):  # what was answered is kept
                    passage = running.pop(one)
                    replies[passage] = reply = one.result()
                    refused, said = refused + (reply is None), said or reply is not None
                    bar.advance(passage != _HARMLESS)
                monitor.safe_point()
        finally:
            endpoint.stop()
            pool.shutdown(cancel_futures=True)
            for one, passage in running.items():
                if not one.cancelled() and one.exception() is None:
                    replies[passage] = one.result()
    if in_doubt and not said:
        replies.forget()
        raise LlmtuneError(
            "the endpoint refuses every passage sent (status 400, 413 or 422), or says no word about it",
            where=settings.url,
            fix="check `model`, that its context holds 1,000 tokens, and what the endpoint's log says",
        )


def generated(document: Document, settings: InstructSettings, replies: Replies) -> Iterator[Judged]:
    """What the model wrote about a document, judged."""
    assert settings.generate is not None
    for passage in _passages_of(document, settings.generate):
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


def _wanted(passage: str, settings: GenerateSettings) -> str:
    return f"Write {settings.pairs_per_passage} questions with their answers from this passage:\n\n{passage}"


def _passages(corpus: Path, settings: GenerateSettings, replies: Replies) -> Iterator[str]:
    """Those of all documents that have no reply."""
    for split in SPLITS:
        for document in read_split(corpus, split):
            yield from (passage for passage in _passages_of(document, settings) if passage not in replies)


def _passages_of(document: Document, settings: GenerateSettings) -> list[str]:
    if document.text is None or document.origin is not None:
        return []
    return passages_of(sections_of(document.text), settings.passages_per_document)
