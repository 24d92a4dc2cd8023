"""A pair on its way: what a rule proposes, before the gate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmtune.augment.instruct.outline import Block
from llmtune.augment.instruct.prose import points_elsewhere, standing_alone

GENERATED = "generated"
_ENDS = (".", "!", "?", ":", ")", "”", '"', "`")  # of a paragraph that is no label or line of a table
_STORY = re.compile(r"\b(?:consider|suppose|assume|imagine|initially)\b[^.]*:$", re.IGNORECASE)
_LED_INTO = ("code", "list", "table")


@dataclass(frozen=True)
class Draft:
    """rule: one of the settings, or GENERATED. question, answer: as the conversation will have them; no answer where
    nothing stands alone. said: the text that the answer was made of, for the report."""

    rule: str
    question: str
    answer: str
    said: str


def answer_of(blocks: list[Block], most: int) -> str:
    """What the first blocks of a section say, in whole paragraphs of at most `most` characters together; empty where
    the first one needs what is not there. A list, table or code block comes along where a sentence leads into it."""
    parts: list[str] = []
    size = at = 0
    whole = True
    while whole and at < len(blocks) and blocks[at].kind == "prose":
        led = _led_into(blocks, at)
        text, whole = standing_alone(blocks[at].text, opens=not parts, leads=led is not None)
        together = [text, led.text] if led and text.endswith(":") else [text]
        size += sum(map(len, together))
        if not text.endswith(_ENDS) or (parts and size > most):
            break
        parts += together
        at += len(together)
    if at and blocks[at - 1].kind in _LED_INTO and _STORY.search(parts[-2]):  # a story without its end
        parts[-2:] = filter(None, [standing_alone(parts[-2], opens=len(parts) == 2)[0]])
    return "\n\n".join(parts)


def _led_into(blocks: list[Block], at: int) -> Block | None:
    """What a paragraph may lead into: the block behind it, where that stands alone and is all of it."""
    behind, further = (blocks[place] if place < len(blocks) else None for place in (at + 1, at + 2))
    if behind is None or behind.kind not in _LED_INTO or points_elsewhere(behind.text):
        return None
    cut = behind.kind == "list" and further is not None and further.kind in ("list", "other")
    return None if cut else behind  # of a list that goes on, items have further paragraphs
