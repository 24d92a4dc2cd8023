"""The pairs in what a model replied: a JSON list, alone or among other words."""

from __future__ import annotations

import json
import re
from typing import Any

from llmtune.words import printable

# What a model thought before it replied, its end missing where there was no room for it. Some templates have opened it
# already; a reply that begins with the list has none, whatever its answers speak of.
_THOUGHT = re.compile(r"\A(?!\s*[\[`])(?:.*?</think>|\s*<think>.*)", re.DOTALL)
_OPENED = re.compile(r"\[(?=\s*\{)")  # a list of objects
_NOTHING = re.compile(r"\s*(?:```\w*\s*)?\[\s*\]\s*(?:```\s*)?")
_DECODER = json.JSONDecoder()


def pairs_in(reply: str) -> list[tuple[str, str]] | None:
    """The (question, answer) pairs of the first list of such; none where the reply is an empty list; None where there
    is no list of pairs."""
    said = _THOUGHT.sub("", reply, count=1)
    if _NOTHING.fullmatch(said):
        return []
    for opened in _OPENED.finditer(said):
        try:
            value, _ = _DECODER.raw_decode(said, opened.start())
        except RecursionError:  # no list of pairs goes that deep, and trying each of its brackets takes too long
            return None
        except ValueError:
            continue
        if pairs := _pairs_of(value):
            return pairs
    return None


def _pairs_of(value: list[Any]) -> list[tuple[str, str]] | None:
    """None where one of them is no pair of texts."""
    pairs = []
    for one in value:
        if not isinstance(one, dict):
            return None
        texts = [one.get(name) for name in ("question", "answer")]
        question, answer = (printable(text).strip() if isinstance(text, str) else "" for text in texts)
        if not (question and answer):
            return None
        pairs.append((question, answer))
    return pairs
