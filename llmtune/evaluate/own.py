"""The user's own questions: a JSON-lines file, four-way or free."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.errors import LlmtuneError


@dataclass(frozen=True)
class OwnQuestion:
    """choices: empty for a free answer, which must then contain `answer`; else `answer` is one of them."""

    question: str
    choices: tuple[str, ...]
    answer: str


def read_own_questions(path: Path) -> list[OwnQuestion]:
    """The questions of a file; raises LlmtuneError naming file and line of the first that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LlmtuneError(f"cannot read your questions: {error}", where=str(path)) from error
    questions = [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not questions:
        raise LlmtuneError("holds no question", where=str(path), fix="one JSON object a line")
    return questions


def _parse(line: str, where: str) -> OwnQuestion:
    form = '{"question": "…", "choices": ["…", "…"], "answer": 0}  or  {"question": "…", "answer": "…"}'
    try:
        value: Any = json.loads(line)
        question, choices, answer = value["question"], value.get("choices", []), value["answer"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LlmtuneError(f"not a question ({error!r})", where=where, fix=f"write {form}") from error
    if not isinstance(question, str) or not isinstance(choices, list):
        raise LlmtuneError("`question` must be text and `choices` a list", where=where, fix=f"write {form}")
    texts = tuple(str(choice) for choice in choices)
    if texts and isinstance(answer, int) and 0 <= answer < len(texts):
        answer = texts[answer]
    if not isinstance(answer, str) or (texts and answer not in texts):
        known = "one of the choices, or its number from 0" if texts else "text"
        raise LlmtuneError(f"`answer` is {answer!r}, expected {known}", where=where, fix=f"write {form}")
    return OwnQuestion(question, texts, answer)
