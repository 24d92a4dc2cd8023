"""A corpus split as rows of tokens, ready to be read in any order: tokenized once, packed once, memory-mapped.

    from llmtune.training.data import build_rows
    rows = build_rows(corpus, "train", tokenizer, row_tokens=512, pack=True, cache=folder, monitor=monitor)
    rows[0].input_ids, len(rows), rows.trained_tokens

A text document is trained on all its tokens but the first; a conversation on the assistant's answers, end token
included. A document longer than a row is cut into pieces (the first token of a piece has no context and is no target);
a conversation longer than a row loses its end. What holds no target at all is left out, and counted.

For an encoder each piece is `framed`: it stands between the tokens that open and close a sequence ([CLS], [SEP]), which
are no targets; all between them are.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from llmtune.corpus.store import repeats_of
from llmtune.errors import LlmtuneError
from llmtune.files import content_fingerprint, fingerprint, made_whole, read_json, write_json
from llmtune.monitor import Monitor
from llmtune.training.isolation import IN_BOTH_DIRECTIONS, PACKED, Isolation
from llmtune.training.pack import pack as pack_pieces
from llmtune.training.tokenize import TokenizedSplit, Tokens, frame_of, tokenize_split, tokenizer_identity

if TYPE_CHECKING:
    from llmtune.training.settings import TrainSettings

Frame = tuple[list[int], list[int]]  # ids before and behind a piece

# Raise when the same corpus and tokenizer come to give other rows: caches are then built again.
VERSION = 2


@dataclass(frozen=True)
class Row:
    """One row of at most `row_tokens` tokens, without padding.

    input_ids: (n,) int32
    documents: (n,) int32, which document of the row each token belongs to: 0, 0, …, 1, 1, …
    trained:   (n,) bool, whether the token is a target; never the first token of a document
    words:     (n,) bool, whether a word begins with the token; only of framed rows
    """

    input_ids: np.ndarray
    documents: np.ndarray
    trained: np.ndarray
    words: np.ndarray | None = None


@dataclass(frozen=True)
class RowCounts:
    """What became of a split. Tokens are of the model's tokenizer.

    documents, pieces:  with a target in them; a document longer than a row gives several pieces
    tokens, trained:    in the rows; of these the targets
    fill:               share of the rows' room (rows × row_tokens) that holds tokens
    longest:            tokens of the longest piece
    cut_documents:      texts longer than a row, cut into pieces
    shortened:          conversations longer than a row, whose end was left out
    dropped_documents:  without any target (one token; no answer within the row)
    dropped_tokens:     left out by any of these
    """

    documents: int
    pieces: int
    tokens: int
    trained: int
    fill: float
    longest: int
    cut_documents: int
    shortened: int
    dropped_documents: int
    dropped_tokens: int


class Rows(Sequence[Row]):
    """The rows of one split, read from memory-mapped files; opened by `build_rows`.

    row_tokens: the room of a row
    counts:     see RowCounts
    """

    def __init__(self, split: TokenizedSplit, folder: Path) -> None:
        facts = read_json(folder / "rows.json")
        self.row_tokens: int = facts["row_tokens"]
        self.counts = RowCounts(**facts["counts"])
        self._opening, self._closing = (np.array(ids, np.int32) for ids in facts["frame"])
        self._split = split
        self._pieces = np.load(folder / "pieces.npy", mmap_mode="r")  # (pieces, 3): document, first token, length
        self._starts = np.load(folder / "starts.npy", mmap_mode="r")  # (rows + 1,): first piece of each row

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        pieces = self._pieces[self._starts[index] : self._starts[index + 1]]
        parts = [self._piece(*map(int, piece)) for piece in pieces]
        framed = any(part.words is not None for part in parts)
        return Row(
            input_ids=np.concatenate([part.ids for part in parts]),
            documents=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.ids) for part in parts]),
            trained=np.concatenate([part.trained for part in parts]),
            words=np.concatenate([part.words for part in parts if part.words is not None]) if framed else None,
        )

    def _piece(self, document: int, first: int, length: int) -> Tokens:
        """A piece of a document as it stands in a row. Its first token has no context and is never a target."""
        ids, trained, words = self._split.piece(document, first, length)
        around = (len(self._opening), len(self._closing))
        ids = np.concatenate([self._opening, ids, self._closing])
        trained = np.pad(trained, around)
        trained[:1] = False
        return Tokens(ids, trained, None if words is None else np.pad(words, around, constant_values=True))

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return self.counts.tokens

    @property
    def trained_tokens(self) -> int:
        """Targets in all rows."""
        return self.counts.trained

    @property
    def has_conversations(self) -> bool:
        """Whether any document is a conversation."""
        return any(bool(part.chat.any()) for part in self._split.parts)

    @property
    def padding_if_padded(self) -> int:
        """Tokens of padding if each piece had a row of its own, as long as the longest piece: what packing saves."""
        return self.counts.pieces * self.counts.longest - self.counts.tokens


def build_rows(
    corpus: Path,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    row_tokens: int,
    *,
    pack: bool = True,
    framed: bool = False,
    cache: Path | None = None,
    monitor: Monitor | None = None,
) -> Rows:
    """The rows of a corpus split, built once and then opened from `cache`.

    corpus:     folder of a corpus artifact (llmtune/corpus/store.py)
    row_tokens: most tokens in a row
    pack:       several documents a row; False: one document (or piece of one) a row, as families need whose state
                cannot be kept inside a document
    framed:     for an encoder, see the module
    cache:      folder for the tokens and rows; they are found again by the contents of the split and the tokenizer.
                None: a temporary folder that goes when the rows do. Under several processes let one build first.

    Raises LlmtuneError when nothing in the split can be trained on, when a conversation meets a tokenizer without a
    chat template, or when answers cannot be found in what the template makes; BadArtifact for a damaged corpus;
    Stopped when the monitor says so (tokens done so far are kept).
    """
    monitor = monitor or Monitor()
    if row_tokens < 2:
        raise ValueError("a row needs at least 2 tokens")
    temporary = None
    if cache is None:
        cache = temporary = Path(tempfile.mkdtemp(prefix="llmtune-rows-"))
    try:
        identity = {
            "version": VERSION,
            "split": content_fingerprint([corpus / split]),
            "tokenizer": tokenizer_identity(tokenizer),
        }
        folder = cache / f"{split}-{fingerprint(identity)}"
        tokenized = tokenize_split(
            corpus, split, tokenizer, folder / ("bare" if framed else "tokens"), monitor, bare=framed
        )
        kind = ("packed" if pack else "single") + ("-framed" if framed else "")
        rows_folder = folder / f"rows-{row_tokens}-{kind}"

        def write_rows(folder: Path) -> None:
            frame: Frame = frame_of(tokenizer) if framed else ([], [])
            times = times_read(repeats_of(corpus, split))
            _write_rows(tokenized, times, folder, row_tokens, pack, frame, monitor)

        rows = Rows(tokenized, made_whole(rows_folder, write_rows))
        if rows.counts.trained == 0:
            raise LlmtuneError(
                f"the '{split}' split of the corpus has no token to train on "
                f"({rows.counts.dropped_documents} documents, {rows.counts.dropped_tokens} tokens, no target in any)",
                where=split,
                fix="conversations need assistant answers that begin within the first row_tokens tokens "
                f"({row_tokens} now); texts need more than one token",
            )
    except BaseException:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    if temporary is not None:
        weakref.finalize(rows, shutil.rmtree, temporary, ignore_errors=True)
    return rows


def rows_for(
    settings: TrainSettings,
    isolate: Isolation,
    corpus: Path,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    cache: Path | None = None,
    monitor: Monitor | None = None,
) -> Rows:
    """The rows that a training with these settings gets (see `build_rows`): packed where `isolate` keeps documents of a
    row apart, framed for an encoder."""
    pack, framed = isolate in PACKED, isolate in IN_BOTH_DIRECTIONS
    return build_rows(
        corpus, split, tokenizer, settings.row_tokens, pack=pack, framed=framed, cache=cache, monitor=monitor
    )


def times_read(repeats: np.ndarray) -> np.ndarray:
    """(documents,) int64: how many times each document stands in the rows, for repeats that need not be whole: of a
    hundred documents with 1.3, thirty stand there twice, spread evenly over them."""
    times = np.empty(len(repeats), np.int64)
    for value in np.unique(repeats):
        places = np.flatnonzero(repeats == value)
        times[places] = np.diff(np.floor(value * np.arange(len(places) + 1) + 0.5))
    return times


def _write_rows(
    tokenized: TokenizedSplit,
    times: np.ndarray,
    folder: Path,
    row_tokens: int,
    pack: bool,
    frame: Frame,
    monitor: Monitor,
) -> None:
    """Cut, pack and store the rows of a tokenized split in an empty folder."""
    around = sum(map(len, frame))
    pieces, counts = _cut(tokenized, times, row_tokens - around, monitor, first_is_target=bool(frame[0]))
    lengths = pieces[:, 2] + around
    row_of = pack_pieces(lengths, row_tokens, monitor.safe_point) if pack else np.arange(len(pieces))
    order = np.argsort(row_of, kind="stable")  # within a row, pieces stay in the order of the corpus
    rows = int(row_of.max()) + 1 if len(row_of) else 0
    starts = np.searchsorted(row_of[order], np.arange(rows + 1))
    tokens = int(lengths.sum())
    facts = RowCounts(
        pieces=len(pieces),
        tokens=tokens,
        fill=tokens / (rows * row_tokens) if rows else 0.0,
        longest=int(lengths.max()) if len(pieces) else 0,
        **counts,
    )
    np.save(folder / "pieces.npy", pieces[order])
    np.save(folder / "starts.npy", starts.astype(np.int64))
    write_json(folder / "rows.json", {"row_tokens": row_tokens, "frame": frame, "counts": asdict(facts)})


def _cut(
    tokenized: TokenizedSplit, times: np.ndarray, most: int, monitor: Monitor, *, first_is_target: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """Cut documents into pieces of at most `most` tokens, each standing there as often as `times` says of its document.
    first_is_target: a piece's first token may be one.

    Returns pieces (p, 3) int64: document, first token in it, length; those without a target left out. And the
    documents, trained, cut_documents, shortened, dropped_documents and dropped_tokens of RowCounts.
    """
    found: list[np.ndarray] = []
    counts = dict.fromkeys(("documents", "trained", "cut_documents", "shortened", "dropped_documents"), 0)
    total = used = 0
    for part in tokenized.parts:
        monitor.safe_point()
        lengths, chats = np.diff(part.starts), np.asarray(part.chat)
        total += int(lengths.sum())
        long = lengths > most
        counts["cut_documents"] += int((long & ~chats).sum())
        counts["shortened"] += int((long & chats).sum())
        kept_length = np.where(chats, np.minimum(lengths, most), lengths)
        pieces_of = -(-kept_length // most)
        document = np.repeat(np.arange(len(lengths)), pieces_of)
        which = np.arange(len(document)) - np.repeat(np.cumsum(pieces_of) - pieces_of, pieces_of)
        first = which * most
        length = np.minimum(kept_length[document] - first, most)
        # targets in a piece: differences of the running count, less the piece's own first token
        running = np.concatenate([[0], np.cumsum(part.trained, dtype=np.int64)])
        begin = part.starts[document] + first
        targets = running[begin + length] - running[np.minimum(begin + (not first_is_target), begin + length)]
        has_target = targets > 0
        documents = len(np.unique(document[has_target]))
        counts["documents"] += documents
        counts["dropped_documents"] += len(lengths) - documents
        often = times[document + part.first_document]
        counts["trained"] += int((targets * often).sum())
        used += int(length[has_target].sum())
        whole = np.stack([document + part.first_document, first, length], axis=1)
        # In rounds, so that the copies of a document do not come to stand beside each other.
        found += [whole[has_target & (often > round_)] for round_ in range(int(often.max(initial=0)))]
    pieces = np.concatenate(found) if found else np.empty((0, 3))
    pieces = pieces.astype(np.int64).reshape(-1, 3)
    return pieces, {**counts, "dropped_tokens": total - used}
