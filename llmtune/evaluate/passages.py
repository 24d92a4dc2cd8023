"""Which held-out text is measured: chosen by content alone, so that every model reads the same whatever its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from llmtune.corpus.store import Document
from llmtune.corpus.text import document_text

CHARACTERS_PER_TOKEN = 4
_LONGEST = 16_000  # characters of one document: so that no single one decides the figure
CHOICES = 4
_CONTEXT, _CONTINUATION = 320, 100  # characters
_PER_DOCUMENT = 3  # questions at most


@dataclass(frozen=True)
class Question:
    """A passage and four continuations of it, of which `answer` is the true one; the others stand elsewhere in the
    same document."""

    context: str
    choices: tuple[str, ...]
    answer: int


def texts_of(documents: Iterable[Document], tokens: int) -> list[str]:
    """About `tokens` tokens of text: documents in the order of their hashes, each cut to 16,000 characters."""
    left = tokens * CHARACTERS_PER_TOKEN
    chosen = []
    for document in sorted(documents, key=lambda one: one.sha256):
        if left <= 0:
            break
        text = document_text(document)[: min(_LONGEST, left)]
        left -= len(text)
        if text.strip():
            chosen.append(text)
    return chosen


def questions_of(documents: Iterable[Document], count: int, seed: int) -> list[Question]:
    """Up to `count` questions, spread over the documents in the order of their hashes; fewer where text is short."""
    by_document = [_of_document(text, seed) for one in sorted(documents, key=lambda d: d.sha256)
                   if (text := document_text(one))]  # fmt: skip
    chosen = [questions[turn] for turn in range(_PER_DOCUMENT) for questions in by_document if len(questions) > turn]
    return chosen[:count]


def _of_document(text: str, seed: int) -> list[Question]:
    """Questions from a document long enough for four passages that do not overlap."""
    size = _CONTEXT + _CONTINUATION
    room = len(text) // size
    if room < CHOICES:
        return []
    random = Random(hashlib.sha256(f"{seed}\0{text}".encode()).digest())
    questions = []
    for place in random.sample(range(room), min(_PER_DOCUMENT, room // CHOICES)):
        others = random.sample([other for other in range(room) if other != place], CHOICES - 1)
        pieces = [_cut(text, one * size) for one in (place, *others)]
        continuations = [continuation for _, continuation in pieces]
        if any(len(one) < _CONTINUATION // 2 for one in continuations) or len(set(continuations)) < CHOICES:
            continue
        answer = random.randrange(CHOICES)
        choices = continuations[1:]
        choices.insert(answer, continuations[0])
        questions.append(Question(pieces[0][0], tuple(choices), answer))
    return questions


def _cut(text: str, start: int) -> tuple[str, str]:
    """(context, continuation) from `start`; the continuation begins with the white space before a word."""
    border = start + _CONTEXT
    while border > start + 1 and not text[border].isspace():
        border -= 1
    continuation = text[border : border + _CONTINUATION]
    return text[start:border], continuation.rstrip()
