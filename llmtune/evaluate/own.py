"""The user's own questions: a JSON-lines file, with choices or a free answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.errors import LlmtuneError

_FORM = (
    '{"question": "…", "choices": ["…", "…"], "answer": 0}  or  {"question": "…", "answer": "…"}  or  '
    '{"prompt": "…", "answer": "…"}'
)
_FIELDS = ("question", "prompt", "choices", "answer")


@dataclass(frozen=True)
class OwnQuestion:
    """choices: empty for a free answer, which must then contain `answer`; else `answer` is one of them. continued: the
    text is a prompt to go on with, not a question to reply to."""

    question: str
    choices: tuple[str, ...]
    answer: str
    continued: bool = False


def read_own_questions(path: Path) -> list[OwnQuestion]:
    """The questions of a file; raises LlmtuneError naming file and line of the first that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: JSON text may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise LlmtuneError(f"cannot read your questions: {error}", where=str(path)) from error
    questions = [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not questions:
        raise LlmtuneError("holds no question", where=str(path), fix=f"write one JSON object a line: {_FORM}")
    return questions


def _parse(line: str, where: str) -> OwnQuestion:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise LlmtuneError(f"not JSON: {error}", where=where, fix=f"write {_FORM}") from error
    problem = _problem(value)
    if problem:
        raise LlmtuneError(problem, where=where, fix=f"write {_FORM}")
    choices, answer = tuple(value.get("choices", ())), value["answer"]
    continued = "prompt" in value
    text = value["prompt" if continued else "question"]
    return OwnQuestion(text, choices, choices[answer] if isinstance(answer, int) else answer, continued)


def _problem(value: Any) -> str | None:
    """What is wrong with a parsed line, as a sentence."""
    if not isinstance(value, dict):
        return f"expected an object, found {value!r}"
    unknown = [name for name in value if name not in _FIELDS]
    if unknown:
        return f"unknown field '{unknown[0]}'; expected {', '.join(_FIELDS)}"
    if "prompt" in value and not value.keys() <= {"prompt", "answer"}:
        return "a `prompt` is continued freely; with `choices`, or beside it, expected `question` alone"
    kind = "prompt" if "prompt" in value else "question"
    choices, answer = value.get("choices", []), value.get("answer")
    if not _is_text(value.get(kind)):
        return f"`{kind}` is {value.get(kind)!r}, expected text"
    if not isinstance(choices, list) or not all(map(_is_text, choices)) or len(choices) == 1:
        return f"`choices` is {choices!r}, expected a list of two texts or more"
    if not choices:
        return None if _is_text(answer) else f"`answer` is {answer!r}, expected text"
    numbered = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices)
    return None if numbered or answer in choices else f"`answer` is {answer!r}, expected a choice, or its number from 0"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
