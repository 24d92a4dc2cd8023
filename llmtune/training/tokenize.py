"""Tokenize a corpus split once, into memory-mapped parts that survive a kill.

Each part holds the documents of about 64 MB of text and appears whole or not at all, so a job that was stopped goes on
after the last finished part.

    00000/tokens.npy   (t,) uint16 or uint32: the documents of the part behind each other
    00000/trained.npy  (t,) bool: which of them are targets
    00000/starts.npy   (d + 1,) int64: where each document starts in these
    00000/chat.npy     (d,) bool: whether it is a conversation
    00000/words.npy    (t,) bool: where words begin; only `bare`

A split is tokenized `bare` where each piece of a document, not each document, stands between the tokens that open and
close a sequence (encoders): these are then added when a piece is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from llmtune.corpus.store import Document, count, read_split
from llmtune.errors import LlmtuneError
from llmtune.files import fingerprint, made_whole, write_json
from llmtune.monitor import Bar, Monitor
from llmtune.training.chat_template import tokenize_conversations

PART_CHARACTERS = 64 << 20
BATCH_CHARACTERS = 2 << 20  # between two safe points: about a second
DONE = "done.json"

IdsAndTargets = tuple[list[int] | np.ndarray, np.ndarray]


class Tokens(NamedTuple):
    """A tokenized document: its ids, which of them are targets, and at which words begin (only of a bare one)."""

    ids: Sequence[int] | np.ndarray
    trained: np.ndarray
    words: np.ndarray | None = None


@dataclass(frozen=True)
class Part:
    """One finished part; arrays as in the module's table. first_document: number of its first document in the split."""

    first_document: int
    tokens: np.ndarray
    trained: np.ndarray
    starts: np.ndarray
    chat: np.ndarray
    words: np.ndarray | None = None


class TokenizedSplit:
    """All parts of a split, addressed by the number of the document in the split."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self._firsts = [part.first_document for part in parts]

    def piece(self, document: int, first: int, length: int) -> Tokens:
        """`length` tokens of a document from `first` on: ids int32."""
        part = self.parts[bisect_right(self._firsts, document) - 1]
        begin = int(part.starts[document - part.first_document]) + first
        inside = slice(begin, begin + length)
        words = None if part.words is None else np.array(part.words[inside])
        return Tokens(part.tokens[inside].astype(np.int32), np.array(part.trained[inside]), words)


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """Fingerprint of everything that decides the tokens of a document: vocabulary, normaliser, template, end token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return fingerprint([type(tokenizer).__name__, model, tokenizer.chat_template, tokenizer.eos_token_id])


def tokenize_split(
    corpus: Path, split: str, tokenizer: PreTrainedTokenizerBase, folder: Path, monitor: Monitor, *, bare: bool = False
) -> TokenizedSplit:
    """Tokenize what is not yet in `folder`, and open it all. Errors as in `build_rows`."""
    if not (folder / DONE).exists():
        _tokenize_missing(corpus, split, tokenizer, folder, monitor, bare)
    return TokenizedSplit(_finished_parts(folder))


def _tokenize_missing(
    corpus: Path, split: str, tokenizer: PreTrainedTokenizerBase, folder: Path, monitor: Monitor, bare: bool
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = _finished_parts(folder)
    done = sum(len(part.chat) for part in parts)
    documents = islice(read_split(corpus, split), done, None)
    number = len(parts)
    with monitor.bar(f"tokenize {split}", count(corpus, split), "documents", done) as bar:
        for part in batches(documents, PART_CHARACTERS):
            made_whole(folder / f"{number:05d}", partial(_write_part, part, tokenizer, monitor, bar, bare))
            deque(part, maxlen=0)  # where another process has made it meanwhile: the next one begins behind it
            number += 1
    write_json(folder / DONE, {"parts": number})


def _finished_parts(folder: Path) -> list[Part]:
    parts: list[Part] = []
    first = 0
    for path in sorted(folder.glob("[0-9]*")):
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in path.glob("*.npy")}
        parts.append(Part(first_document=first, **arrays))
        first += len(arrays["chat"])
    return parts


def _write_part(
    documents: Iterator[Document],
    tokenizer: PreTrainedTokenizerBase,
    monitor: Monitor,
    bar: Bar,
    bare: bool,
    folder: Path,
) -> None:
    tokens: list[np.ndarray] = []
    trained: list[np.ndarray] = []
    words: list[np.ndarray] = []
    lengths: list[int] = [0]
    chats: list[bool] = []
    kind = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    for batch in map(list, batches(documents, BATCH_CHARACTERS)):
        monitor.safe_point()
        found = tokenize_bare(batch, tokenizer) if bare else [Tokens(*one) for one in tokenize(batch, tokenizer)]
        for document, (ids, targets, starts) in zip(batch, found, strict=True):
            tokens.append(np.asarray(ids, dtype=kind))
            trained.append(targets)
            words += [] if starts is None else [starts]
            lengths.append(len(ids))
            chats.append(document.messages is not None)
        bar.advance(len(batch))
    np.save(folder / "tokens.npy", np.concatenate(tokens) if tokens else np.empty(0, kind))
    np.save(folder / "trained.npy", np.concatenate(trained) if trained else np.empty(0, bool))
    np.save(folder / "starts.npy", np.cumsum(lengths, dtype=np.int64))
    np.save(folder / "chat.npy", np.array(chats, bool))
    if bare:
        np.save(folder / "words.npy", np.concatenate(words) if words else np.empty(0, bool))


def tokenize(documents: list[Document], tokenizer: PreTrainedTokenizerBase) -> list[IdsAndTargets]:
    """Ids and targets (bool) of each document, in the order given."""
    texts = [document for document in documents if document.messages is None]
    chats = [document for document in documents if document.messages is not None]
    of_texts = iter(_tokenize_texts([document.text or "" for document in texts], tokenizer))
    of_chats = iter(tokenize_conversations(chats, tokenizer))
    return [next(of_texts if document.messages is None else of_chats) for document in documents]


def _tokenize_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[IdsAndTargets]:
    """Each text between the tokens that open a sequence by the tokenizer's own convention and its end token."""
    if not texts:
        return []
    opening = opening_tokens(tokenizer)
    closing = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    # A document is data: the text "<|im_end|>" in it must not become the control token.
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    found: list[IdsAndTargets] = []
    for ids in encoded:
        whole = [*opening, *ids, *closing]
        trained = np.ones(len(whole), bool)
        trained[:1] = False
        found.append((whole, trained))
    return found


def tokenize_bare(documents: list[Document], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
    """The tokens of each text alone, all of them targets, and at which of them the tokenizer's words begin (at each,
    where it does not tell). Raises LlmtuneError for a conversation."""
    chat = next((document.id for document in documents if document.messages is not None), None)
    if chat is not None:
        raise LlmtuneError(
            "an encoder learns texts, and this document is a conversation",
            where=chat,
            fix="leave the conversations out of this training's corpus, or train a causal model on them",
        )
    encoded: Any = tokenizer(
        [document.text or "" for document in documents],
        add_special_tokens=False,
        split_special_tokens=True,
        verbose=False,
    )
    found: list[Tokens] = []
    for number, ids in enumerate(encoded["input_ids"]):
        words = np.ones(len(ids), bool)
        if encoded.is_fast and len(ids):
            words[1:] = np.diff(np.array(encoded.word_ids(number))) != 0
        found.append(Tokens(ids, np.ones(len(ids), bool), words))
    return found


def opening_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text (usually a beginning-of-sequence token, or nothing)."""
    return frame_of(tokenizer)[0]


def frame_of(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer itself puts before a text and behind it ([CLS] and [SEP] of a BERT)."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    special = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(special) - len(plain) + 1):
        if special[start : start + len(plain)] == plain:
            return list(special[:start]), list(special[start + len(plain) :])
    return [], []


def batches(documents: Iterator[Document], characters: int) -> Iterator[Iterator[Document]]:
    """Consecutive runs of documents, each closed by the document that reaches `characters`; read each before the
    next. Where they are closed depends on the documents alone."""

    def run(first: Document) -> Iterator[Document]:
        size = 0
        for document in chain([first], documents):
            yield document
            size += len(document.text or "") + sum(len(m.content) for m in document.messages or ())
            if size >= characters:
                return

    for first in documents:
        yield run(first)
