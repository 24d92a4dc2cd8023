"""Has the model asked about all passages, and tells a passage that gets no reply from an endpoint that gives none.

A passage without a reply is in doubt until the endpoint replies to one that was sent after it: then it was the passage.
Where that does not come about by itself, a passage that nobody could refuse is sent; without a reply to that it is the
endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count, islice
from pathlib import Path

from llmtune.augment.instruct.endpoint import Endpoint, NoReply, Unanswered
from llmtune.augment.instruct.gate import RUBBISH
from llmtune.augment.instruct.generate import SYSTEM, Replies, passages_in, wanted
from llmtune.augment.instruct.reply import pairs_in
from llmtune.augment.instruct.settings import GenerateSettings
from llmtune.corpus.store import SPLITS, read_split
from llmtune.errors import LlmtuneError
from llmtune.monitor import Monitor
from llmtune.words import visible

# As long as a passage of English, so that a context that is too small refuses it too.
_HARMLESS = " ".join(["The library of the town opens at nine in the morning and closes at five in the afternoon."] * 22)
_REFUSALS = 20  # in doubt at a time; of those that are unanswered one, as its tries take minutes
_UNANSWERED = 8  # in a row: an endpoint that replies to the harmless one alone would take hours
_LOOK = 1.0  # seconds between two looks whether to stop
_SHOWN = 100  # characters of a reply, or of a heading
_OR_SKIP = "or set `on_error: skip` to go on without such passages"


def ask_for_all(
    corpus: Path, settings: GenerateSettings, replies: Replies, seed: int, monitor: Monitor
) -> dict[str, str]:
    """Send every passage that has no reply yet, some at a time; returns those that got none, and what the endpoint did
    instead. Raises LlmtuneError when the endpoint fails or, with `on_error: fail`, at the first passage without a
    reply in the form asked for; Stopped.

    What was answered is kept either way."""
    endpoint = Endpoint(settings)
    doubts = _Doubts(replies)
    total = sum(1 for _ in _passages(corpus, settings, replies))
    running: dict[Future[str], tuple[str, str, int]] = {}  # the document, the passage, how many were sent before it
    sent = count()
    unasked = (  # some passages stand in several documents
        (document, passage)
        for document, passage in _passages(corpus, settings, replies)
        if passage not in doubts and all(passage != asked for _, asked, _ in running.values())
    )
    with monitor.bar("asking the model", total, "passages") as bar, ThreadPoolExecutor(settings.parallel) as pool:

        def send(document: str, passage: str) -> None:
            running[pool.submit(endpoint.ask, SYSTEM, wanted(passage, settings), seed)] = document, passage, next(sent)

        try:
            while True:
                room = 0 if doubts.grave else settings.parallel - len(running)
                for document, passage in islice(unasked, room):
                    send(document, passage)
                if not running:
                    if not doubts:
                        break
                    send("", _HARMLESS)
                done = wait(running, _LOOK, FIRST_COMPLETED).done
                for one in sorted(done, key=lambda one: one.exception() is not None):  # what was answered is kept
                    document, passage, number = running.pop(one)
                    try:
                        reply = one.result()
                    except NoReply as error:
                        if passage == _HARMLESS:
                            raise _of_endpoint(error) from None
                        if settings.on_error == "fail":
                            raise _of_passage(document, passage, error.what, str(error.fix)) from None
                        doubts.add(passage, number, error)
                    else:
                        if not _will_do(reply, settings):
                            said = visible(reply.strip()[:_SHOWN]) or "it is empty"
                            raise _of_passage(document, passage, f"{RUBBISH}: {said}", "try another `model`")
                        if passage != _HARMLESS:
                            replies[passage] = reply
                        doubts.settle(number, passage == _HARMLESS)
                    bar.advance(passage != _HARMLESS)
                monitor.safe_point()
        finally:
            endpoint.stop()
            pool.shutdown(cancel_futures=True)
            for one, (_, passage, _) in running.items():
                answered = passage != _HARMLESS and not one.cancelled() and one.exception() is None
                if answered and _will_do(one.result(), settings):
                    replies[passage] = one.result()
    return doubts.unanswered


class _Doubts:
    """Passages without a reply. unanswered: those that the endpoint had nothing to say about, known to be why, which a
    later run asks about again; refusals are kept with the replies."""

    def __init__(self, replies: Replies) -> None:
        self.unanswered: dict[str, str] = {}
        self._replies = replies
        self._open: dict[str, tuple[int, NoReply]] = {}  # with how many were sent before
        self._in_a_row = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, passage: str) -> bool:
        return passage in self._open or passage in self.unanswered

    @property
    def grave(self) -> bool:
        """Whether to wait for a reply before more is sent."""
        return len(self._open) >= _REFUSALS or any(isinstance(error, Unanswered) for _, error in self._open.values())

    def add(self, passage: str, number: int, error: NoReply) -> None:
        """One more. Raises LlmtuneError when so many are unanswered in a row that it does not matter why."""
        self._open[passage] = number, error
        self._in_a_row += isinstance(error, Unanswered)
        if self._in_a_row == _UNANSWERED:
            raise LlmtuneError(f"{error.what}, {_UNANSWERED} passages in a row", where=error.where, fix=error.fix)

    def settle(self, number: int, by_harmless: bool) -> None:
        """The endpoint replied to another one. Of those that were sent after it, that says nothing."""
        settled = [(passage, error) for passage, (sent, error) in self._open.items() if sent < number]
        for passage, error in settled:
            del self._open[passage]
            if isinstance(error, Unanswered):
                self.unanswered[passage] = error.what
            else:
                self._replies[passage] = None
        if not by_harmless:
            self._in_a_row = 0


def _of_endpoint(error: NoReply) -> LlmtuneError:
    if isinstance(error, Unanswered):
        return error
    return LlmtuneError(f"{error.what}, even to a passage that nobody could refuse", where=error.where, fix=error.fix)


def _of_passage(document: str, passage: str, what: str, fix: str) -> LlmtuneError:
    headings = " / ".join(line.lstrip("# ") for line in passage.split("\n\n")[0].split("\n"))
    place = ", ".join(filter(None, [document, headings[:_SHOWN]]))
    return LlmtuneError(what, where=visible(place), fix=f"{fix}; {_OR_SKIP}")


def _will_do(reply: str | None, settings: GenerateSettings) -> bool:
    """Whether it is kept: with `on_error: fail` only what holds pairs, so that the rest is asked for again."""
    return settings.on_error == "skip" or (reply is not None and pairs_in(reply) is not None)


def _passages(corpus: Path, settings: GenerateSettings, replies: Replies) -> Iterator[tuple[str, str]]:
    """(document, passage) of those that have no reply that will do."""
    for split in SPLITS:
        for document in read_split(corpus, split):
            for passage in passages_in(document, settings):
                if not (passage in replies and _will_do(replies[passage], settings)):
                    yield document.id, passage
