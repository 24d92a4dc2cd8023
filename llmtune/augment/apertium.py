"""Apertium, the rule-based translator: one long-lived pipeline a direction, both at work at once.

A pipeline is started with null-flush (`apertium -z`): a zero byte ends a segment and brings its translation out, with
nothing remembered for the next one. Protected spans go through as superblanks (`[1]`): formatting that Apertium carries
along between the words and does not look into. Unknown words come out marked: `*` not in the dictionary, `@` without a
translation, `#` without a form to say it.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

from llmtune.augment.engine import RoundTrip
from llmtune.errors import CannotRunHere, LlmtuneError
from llmtune.files import fingerprint
from llmtune.models.cache import digest

# Apertium names languages by three letters (ISO 639-3), recipes by two.
_LANGUAGES = {
    "af": "afr", "an": "arg", "ar": "ara", "ast": "ast", "be": "bel", "bg": "bul", "br": "bre", "ca": "cat",
    "cy": "cym", "da": "dan", "de": "deu", "en": "eng", "eo": "epo", "es": "spa", "eu": "eus", "fr": "fra",
    "gl": "glg", "hi": "hin", "id": "ind", "is": "isl", "it": "ita", "kk": "kaz", "mk": "mkd", "ms": "msa",
    "mt": "mlt", "nb": "nob", "nl": "nld", "nn": "nno", "oc": "oci", "pl": "pol", "pt": "por", "ro": "ron",
    "ru": "rus", "sc": "srd", "se": "sme", "sl": "slv", "sv": "swe", "tr": "tur", "tt": "tat", "uk": "ukr",
    "ur": "urd",
}  # fmt: skip
_ANSWER_SECONDS = 60.0  # one sentence takes milliseconds; a pipeline that says nothing for so long hangs
_SPECIAL = re.compile(r"[\\^$/{}@<>*#~]")
_ESCAPED = re.compile(r"\\(.)")
_MARK = re.compile(r"(?<!\w)([*@#]+)(?=\w)")
_TOGETHER = 16  # segments sent at a time
_MOST_FAILURES = 3  # segments that fail one after another before the engine counts as broken


def mode_of(source: str, target: str) -> str:
    """Apertium's name of a direction, for two languages as a recipe or Apertium names them: `eng-spa`."""
    return f"{_LANGUAGES.get(source, source)}-{_LANGUAGES.get(target, target)}"


def problems_of(source: str, pivot: str) -> list[LlmtuneError]:
    """What is missing here to translate between two languages: the program, or a direction."""
    program = shutil.which("apertium")
    pair = f"apertium-{mode_of(source, pivot)}"
    if program is None:
        return [CannotRunHere("the translator `apertium` is not installed", fix=f"apt-get install apertium {pair}")]
    modes = _modes_folder(program)
    lacking = [mode for mode in _modes(source, pivot) if not (modes / f"{mode}.mode").is_file()]
    if not lacking:
        return []
    there = sorted(path.stem for path in modes.glob("*.mode"))
    return [
        CannotRunHere(
            f"apertium has no language pair for {source} → {pivot} → {source}: {' and '.join(lacking)} not installed",
            where=str(modes),
            fix=f"apt-get install {pair} (or the two languages the other way round; `apt-cache search apertium` lists "
            f"the pairs). Here are: {', '.join(there) or 'none'}",
        )
    ]


def identity_of(source: str, pivot: str) -> dict[str, Any]:
    """The version of Apertium and the contents of both directions' data; without them where they are not installed."""
    modes = _modes(source, pivot)
    if problems_of(source, pivot):
        return {"modes": modes}
    program = str(shutil.which("apertium"))
    version = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    files = [_modes_folder(program) / f"{mode}.mode" for mode in modes]
    commands = [[Path(word) for word in command] for file in files for command in _commands(file)]
    contents = {word.name: digest(word) for command in commands for word in command[1:] if word.is_file()}
    filters = [[word.name for word in command] for command in commands]
    return {"modes": modes, "version": version, "data": fingerprint([filters, contents])}


class Apertium:
    """Both directions between two languages. Raises CannotRunHere where one is not installed."""

    def __init__(self, source: str, pivot: str) -> None:
        if problems := problems_of(source, pivot):
            raise problems[0]
        self.identity = {"engine": "apertium"} | identity_of(source, pivot)
        self._modes = _modes(source, pivot)
        folder = _modes_folder(str(shutil.which("apertium")))
        self._mode_files = [folder / f"{mode}.mode" for mode in self._modes]
        self.together = 256
        self._pipelines: list[_Pipeline] = []

    def round_trips(self, segments: Sequence[str]) -> Iterator[RoundTrip | None]:
        """As the protocol says. Where a pipeline ends or hangs, both are started anew and go on with one segment at a
        time, until the one that it does not stand is found; that is tried twice alone before it is given up."""
        done = alone = failures = 0
        tried = -1
        try:
            while done < len(segments):
                try:
                    for trip in self._stream(segments[done : done + 1] if alone else segments[done:]):
                        yield trip
                        done, failures, alone = done + 1, 0, max(alone - 1, 0)
                except _Ended as error:
                    said = self._end(grace=0)
                    was_alone, alone = bool(alone), alone or _TOGETHER
                    if not was_alone or tried != done:
                        tried = done if was_alone else tried
                        continue
                    failures += 1
                    if failures == _MOST_FAILURES:
                        raise self._broken(error, said, segments[done]) from error
                    yield None
                    done, alone = done + 1, alone - 1
        finally:
            if done < len(segments):  # answers that nobody waits for are on the way
                self._end(grace=0)

    def close(self) -> None:
        self._end(grace=5)

    def _stream(self, segments: Sequence[str]) -> Iterator[RoundTrip]:
        """The round trips of segments until one of the pipelines ends or hangs; raises _Ended then."""
        if not self._pipelines:
            self._pipelines = [_Pipeline(file) for file in self._mode_files]
        there, back = self._pipelines
        pivots: deque[tuple[str, int, int]] = deque()

        def feed() -> None:
            for start in range(0, len(segments), _TOGETHER):
                there.send(segments[start : start + _TOGETHER])

        def turn_round() -> None:
            answers = islice(there.answers, len(segments))
            try:
                while together := [_unmarked(answer) for answer in islice(answers, _TOGETHER)]:
                    pivots.extend(together)
                    back.send([pivot for pivot, _, _ in together])
            except _Ended:
                back.send_no_more()  # what is on the way comes out, and then its end

        workers = [Thread(target=_until_ended, args=(work,), daemon=True) for work in (feed, turn_round)]
        for worker in workers:
            worker.start()
        for answer in islice(back.answers, len(segments)):
            pivot, unknown, broken = pivots.popleft()
            text, unknown_back, broken_back = _unmarked(answer)
            yield RoundTrip(pivot, text, max(unknown, unknown_back), broken + broken_back)
        for worker in workers:
            worker.join()

    def _broken(self, error: _Ended, said: str, segment: str) -> LlmtuneError:
        return LlmtuneError(
            f"apertium {error}, at {_MOST_FAILURES} segments one after another; the last: {segment!r}",
            where=f"apertium {' and '.join(self._modes)}" + (f", which said: {said}" if said else ""),
            fix=f"try the pair by hand: echo text | apertium {self._modes[0]}",
        )

    def _end(self, grace: float) -> str:
        """End both pipelines; returns what they complained of."""
        said = [pipeline.end(grace) for pipeline in self._pipelines]
        self._pipelines = []
        return " ".join(filter(None, said))


class _Ended(Exception):
    """A pipeline ended or hangs."""


class _Pipeline:
    """One direction: the filters of a mode file in a row, text in, translated text out, a zero byte after each."""

    def __init__(self, mode: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 — closed by `end`
        self._filters: list[subprocess.Popen[bytes]] = []
        self._sent: deque[int] = deque()  # how many segments, each time
        # Translations as they come; raises _Ended when none comes.
        self.answers = self._answers()
        try:
            for command in _commands(mode):
                above = self._filters[-1].stdout if self._filters else subprocess.PIPE
                # A session of its own, so that no Ctrl-C reaches it: the run stops at a safe point.
                self._filters.append(
                    subprocess.Popen(
                        command, stdin=above, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
                    )
                )
                if above is not subprocess.PIPE:
                    above.close()  # type: ignore[union-attr]
        except OSError as error:
            self.end(grace=0)
            raise CannotRunHere(f"a program that apertium needs cannot be started: {error}", where=str(mode)) from error

    def send(self, segments: Sequence[str]) -> None:
        """Give it segments; raises OSError where it has ended."""
        stdin = self._filters[0].stdin
        assert stdin is not None
        # lt-proc loses a full stop that stands right before a zero byte, and its bilingual form (3.7) flushes at a
        # zero byte only when an empty segment follows.
        self._sent.append(len(segments))
        stdin.write("".join(f"{_escaped(segment)}\n\0" for segment in segments).encode() + b"\0")
        stdin.flush()

    def send_no_more(self) -> None:
        """Close its input: it ends when it has answered."""
        first = self._filters[0].stdin if self._filters else None
        try:
            if first is not None:
                first.close()
        except OSError:
            pass  # it has ended, with text on the way

    def _answers(self) -> Iterator[str]:
        """What was answered to each segment that was sent, for as long as it lasts."""
        parts = self._parts()
        while True:
            answer = next(parts)
            for _ in range(self._sent.popleft()):
                yield answer
                answer = next(parts)
            if answer:
                raise _Ended("lost count of the sentences")

    def _parts(self) -> Iterator[str]:
        """What comes between zero bytes."""
        stdout = self._filters[-1].stdout
        assert stdout is not None
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(_ANSWER_SECONDS):
                    raise _Ended(f"did not answer for {_ANSWER_SECONDS:.0f} seconds")
                chunk = os.read(stdout.fileno(), 1 << 16)
                if not chunk:
                    raise _Ended("ended")
                *whole, rest = (rest + chunk).split(b"\0")
                yield from (answer.decode("utf-8", "replace") for answer in whole)

    def end(self, grace: float) -> str:
        """Close it, by force after `grace` seconds; returns the end of its complaints."""
        if not grace:  # before its input is closed, which waits for a thread that is held up in writing to it
            for process in self._filters:
                process.kill()
        self.send_no_more()
        for process in self._filters:
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._filters and self._filters[-1].stdout is not None:
            self._filters[-1].stdout.close()
        with self._errors as errors:
            errors.seek(0)
            return " ".join(errors.read().decode("utf-8", "replace").split())[-300:]


def _commands(mode: Path) -> list[list[str]]:
    """The filters of a mode file, each told to flush at a zero byte (`-z`) and to mark what it does not know (`-g`)."""
    commands = []
    for filter in mode.read_text(encoding="utf-8").split("|"):
        program, *arguments = shlex.split(filter)
        arguments = ["-g" if argument == "$1" else argument for argument in arguments if argument != "$2"]
        commands.append([program, *(["-z"] if "-z" not in arguments else []), *arguments])
    return commands


def _until_ended(work: Callable[[], None]) -> None:
    """Do the work of a thread; that a pipeline has ended is told by the reader at the end of the line."""
    try:
        work()
    except (OSError, ValueError, _Ended):
        pass


def _escaped(text: str) -> str:
    """Text for `-f none`: what means something in Apertium's stream format escaped, but for the superblanks."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _unmarked(answer: str) -> tuple[str, int, int]:
    """(text without marks and with single blanks, unknown words, broken words)."""
    marks = _MARK.findall(answer)
    broken = sum("@" in mark or "#" in mark for mark in marks)
    text = _ESCAPED.sub(r"\1", _MARK.sub("", answer))
    return " ".join(text.split()), len(marks) - broken, broken


def _modes(source: str, pivot: str) -> list[str]:
    return [mode_of(source, pivot), mode_of(pivot, source)]


def _modes_folder(program: str) -> Path:
    """Where Apertium looks for its language pairs: APERTIUM_DATADIR, or beside the program."""
    data = os.environ.get("APERTIUM_DATADIR")
    return Path(data or Path(program).resolve().parent.parent / "share" / "apertium") / "modes"
