"""Errors that a person reads: what was wrong, where, and what to do about it.

Everything the user can cause ends in one of these; anything else is a bug of ours and keeps its traceback in the log.
"""

from __future__ import annotations


class LlmtuneError(Exception):
    """A failure to tell the user in one message.

    what:  one sentence, what is wrong, with the value found and what was expected
    where: recipe location (`file:line:column`), file, document id or tensor name
    fix:   what to do about it
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  → {self.fix}" if self.fix else ""
        return f"{place}{self.what}{advice}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[LlmtuneError], what: str, where: str | None, fix: str | None) -> LlmtuneError:
    return kind(what, where=where, fix=fix)


class RecipeError(LlmtuneError):
    """The recipe or a command-line override is wrong; `what` may hold several lines, one a problem."""

    exit_code = 2


class MissingExtra(LlmtuneError):
    """A capability whose optional dependency is not installed."""


class CannotRunHere(LlmtuneError):
    """The machine lacks what the recipe asks for (a GPU, a number format, memory)."""


class BadArtifact(LlmtuneError):
    """A checkpoint, corpus or bundle that is damaged or is not what it should be."""


class NotFinite(LlmtuneError):
    """Training produced a loss or gradient that is NaN or infinite."""


class OutOfMemory(LlmtuneError):
    """An allocation failed; the run answers with a smaller micro-batch where the stage has one."""


class VerificationFailed(LlmtuneError):
    """An exported bundle does not agree with the checkpoint it came from."""


class GateFailed(LlmtuneError):
    """A quality gate of the recipe was not met."""

    exit_code = 3


class Disturbed(LlmtuneError):
    """What went wrong is not of the recipe's doing (a full disk, a worker killed from outside, files that changed
    meanwhile): when it is put right, the same command goes on."""


class Stopped(LlmtuneError):
    """The user asked to stop; all that was finished is saved and the same command goes on."""

    exit_code = 130

    def __init__(self, what: str = "stopped as asked", *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, where=where, fix=fix or "run the same command to go on")
