"""Which held-out text is measured: chosen by content alone, the same for every model whatever its tokenizer."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from random import Random

from llmtune.corpus.general import general_text
from llmtune.corpus.store import Document, Message, read_split
from llmtune.corpus.text import document_text
from llmtune.evaluate.settings import CHOICES

CHARACTERS_PER_TOKEN = 4
_CONTEXT, _CONTINUATION = 320, 100  # characters
_WORD = 80  # characters within which a border between words is looked for: some scripts set none


@dataclass(frozen=True)
class Split:
    """The documents of one split of a corpus, read anew each time they are gone through: a large one need not stand in
    memory."""

    corpus: Path
    name: str

    def __iter__(self) -> Iterator[Document]:
        return read_split(self.corpus, self.name)


@dataclass(frozen=True)
class Question:
    """A passage and four continuations of it, of which `answer` is the true one; the others stand elsewhere in the
    same document."""

    context: str
    choices: tuple[str, ...]
    answer: int


def general_documents(source: str | Path, tokens: int) -> list[Document]:
    """The general text that so many tokens are measured of: the beginning of `source`."""
    return general_text(source, tokens * CHARACTERS_PER_TOKEN)


def texts_of(documents: Iterable[Document], tokens: int, row_tokens: int = 512) -> list[str | Document]:
    """About `tokens` tokens of text, spread over the documents, every part of them as likely to be in it as any other.

    Texts are cut at word borders into windows of two rows (of `row_tokens`); a conversation is one window, its later
    turns left out where it is longer. They are drawn in the order of a hash until there is enough: a smaller amount is
    the beginning of a larger.

    documents: anything that can be gone through twice
    """
    window, left = 2 * row_tokens * CHARACTERS_PER_TOKEN, tokens * CHARACTERS_PER_TOKEN
    drawn = set()
    for document in documents:
        document = _shortened(document, window)
        size = len(document_text(document))
        step = window if document.messages is None else max(size, 1)
        for start in range(0, size, step):
            draw = hashlib.sha256(f"{document.sha256}\0{start}".encode()).digest()
            drawn.add((draw, document.sha256, start, min(step, size - start)))
    enough = left + window  # a window more: a word border may make one shorter
    wanted: dict[tuple[str, int], str | Document] = {}
    for _, sha256, start, size in sorted(drawn):
        if left <= 0 or enough <= 0:
            break
        wanted[sha256, start] = ""
        enough -= size
    for document in documents:
        if document.messages is not None:
            if (document.sha256, 0) in wanted:
                wanted[document.sha256, 0] = _shortened(document, window)
            continue
        text = document_text(document)
        for start in range(0, len(text), window):
            if (document.sha256, start) in wanted:
                wanted[document.sha256, start] = text[_border(text, start) : _border(text, start + window)]
    chosen: list[str | Document] = []
    for one in wanted.values():
        if left <= 0:
            break
        piece = one[:left] if isinstance(one, str) else one
        words = piece if isinstance(piece, str) else document_text(piece)
        left -= len(words)
        if words.strip():
            chosen.append(piece)
    return chosen


def _shortened(document: Document, characters: int) -> Document:
    """A conversation without the turns that begin behind so many characters, its first answer always kept; another
    document as it is."""
    kept: list[Message] = []
    size, answered = 0, False
    for message in document.messages or ():
        if size >= characters and answered:
            return replace(document, messages=tuple(kept))
        kept.append(message)
        size, answered = size + len(message.content), answered or message.role == "assistant"
    return document


def _border(text: str, place: int) -> int:
    """The first white space at `place` or soon behind it; else `place`."""
    if place == 0 or place >= len(text):
        return min(place, len(text))
    return next((at for at in range(place, min(place + _WORD, len(text))) if text[at].isspace()), place)


def questions_of(documents: Iterable[Document], count: int, seed: int) -> list[Question]:
    """Up to `count` questions: one of each document that is long enough, in the order of their hashes, then a second of
    each, and so on: more documents rather than more of one. Fewer where there is not enough text."""
    least = CHOICES * (_CONTEXT + _CONTINUATION)
    long_enough = ((one.sha256, text) for one in documents if len(text := document_text(one)) >= least)
    by_document = [_of_document(text, seed) for _, text in heapq.nsmallest(2 * count, long_enough)]
    return [one for turn in zip_longest(*by_document) for one in turn if one is not None][:count]


def _of_document(text: str, seed: int) -> list[Question]:
    """Questions from a document long enough for four passages that do not overlap."""
    size = _CONTEXT + _CONTINUATION
    room = len(text) // size
    random = Random(hashlib.sha256(f"{seed}\0{text}".encode()).digest())
    questions = []
    for place in random.sample(range(room), room // CHOICES):
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
