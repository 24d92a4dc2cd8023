"""Passages of a document that a model can ask about: whole paragraphs below their headings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmtune.augment.instruct.outline import Section

_LEAST, _MOST = 300, 2000  # characters


def passages_of(sections: Sequence[Section], most: int) -> list[str]:
    """At most so many, evenly spread over the document."""
    found = [passage for section in sections for passage in _cut(section)]
    step = max(len(found) / most, 1.0)
    return [found[int(number * step)] for number in range(min(most, len(found)))]


def _cut(section: Section) -> Iterator[str]:
    """The section's blocks in passages, each with its headings on top; none for what is too short to ask about."""
    head = "\n".join(f"{'#' * (1 + level)} {name}" for level, name in enumerate(section.headings))
    together: list[str] = []
    size = 0
    for block in section.blocks:
        text = "\n".join((*block.terms, block.text))
        if len(text) > _MOST:
            continue
        if size + len(text) > _MOST:
            if size >= _LEAST:
                yield "\n\n".join([head, *together])
            together, size = [], 0
        together.append(text)
        size += len(text)
    if size >= _LEAST:
        yield "\n\n".join([head, *together])
