"""Which held-out text is measured: chosen by content alone, the same for every model whatever its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from llmtune.corpus.store import Document
from llmtune.corpus.text import document_text

CHARACTERS_PER_TOKEN = 4
_PIECE = 16_000  # characters taken of a document at a time: so that no single one decides the figure
CHOICES = 4
_CONTEXT, _CONTINUATION = 320, 100  # characters
_PER_DOCUMENT = 3  # questions at most
_WORD = 80  # characters within which a border between words is looked for: some scripts set none


@dataclass(frozen=True)
class Question:
    """A passage and four continuations of it, of which `answer` is the true one; the others stand elsewhere in the
    same document."""

    context: str
    choices: tuple[str, ...]
    answer: int


def texts_of(documents: Iterable[Document], tokens: int) -> list[str]:
    """About `tokens` tokens of text: the first 16,000 characters of documents in the order of their hashes; while that
    is not enough, the next 16,000 of each that is longer, and so on."""
    left = tokens * CHARACTERS_PER_TOKEN
    texts = [document_text(one) for one in sorted(documents, key=lambda one: one.sha256)]
    longest = max(map(len, texts), default=0)
    chosen = []
    for start in range(0, longest, _PIECE):
        for text in texts:
            piece = text[start : start + min(_PIECE, left)]
            if piece.strip():
                chosen.append(piece)
                left -= len(piece)
            if left <= 0:
                return chosen
    return chosen


def questions_of(documents: Iterable[Document], count: int, seed: int) -> list[Question]:
    """Up to `count` questions, spread over the documents in the order of their hashes; fewer where text is short."""
    by_document = [_of_document(text, seed) for one in sorted(documents, key=lambda d: d.sha256)
                   if (text := document_text(one))]  # fmt: skip
    # The first question of every document, then the second, …: more documents rather than more of one.
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
        if any(len(one.strip()) < _CONTINUATION // 2 for one in continuations) or len(set(continuations)) < CHOICES:
            continue  # mostly white space, or the same text twice
        answer = random.randrange(CHOICES)
        choices = continuations[1:]
        choices.insert(answer, continuations[0])
        questions.append(Question(pieces[0][0], tuple(choices), answer))
    return questions


def _cut(text: str, start: int) -> tuple[str, str]:
    """(context, continuation) from `start`; the continuation begins with the white space before a word, if there is
    one near."""
    border = start + _CONTEXT
    words = (at for at in range(border, border - _WORD, -1) if text[at].isspace() and not text[at - 1].isspace())
    border = next(words, border)
    return text[start:border], text[border : border + _CONTINUATION].rstrip()


def text_fingerprint(texts: Iterable[str]) -> str:
    """12 hex digits that tell whether two models were measured on the same text."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:12]
