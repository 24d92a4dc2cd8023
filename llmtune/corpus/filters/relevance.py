"""Whether a document is like the user's seeds: hashed words and pairs of words, their frequency in the seeds against
that in all that was given (Xie et al. 2023, Data Selection for Language Models via Importance Resampling), as the mean
of the log ratios, so that long and short documents can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import RelevanceSettings
from llmtune.corpus.intake import everything, read_all
from llmtune.corpus.readers.reader import Rejected
from llmtune.corpus.settings import Source
from llmtune.corpus.shingles import shingles, word_hashes
from llmtune.corpus.sources import files_of
from llmtune.corpus.text import document_text, plain_text
from llmtune.errors import LlmtuneError
from llmtune.monitor import Monitor
from llmtune.words import printable

OFF_TOPIC = "off topic"

_BUCKETS = 1 << 16
_FOLDS = 10  # of the seeds, each scored by the other nine
_PIECE = 2000  # characters; fewer than `_FOLDS` documents are cut into such pieces
_SMOOTHING = 1.0  # added to each count; with less, rare words decide
_SAMPLED = 4_000_000  # characters of the sources
_SAMPLED_FILES = 400  # of one source, spread evenly
_BEGINNING = 20_000  # characters of one document

Buckets = NDArray[np.int64]


class RelevanceFilter:
    """Learns from the seeds and a sample of the sources, or of general text. threshold: the score asked for."""

    reason = OFF_TOPIC

    def __init__(self, settings: RelevanceSettings, sources: Sequence[Source]) -> None:
        seeds = [self._buckets(text) for text in _pieces(settings)]
        seeds = [buckets for buckets in seeds if len(buckets)]
        if len(seeds) < _FOLDS:
            raise LlmtuneError(
                f"too few seeds to learn from: {len(seeds)} documents or pieces of {_PIECE} characters, "
                f"at least {_FOLDS} needed",
                where=printable(str(settings.seeds)),
                fix="name more documents of the domain in `filters.relevance.seeds`",
            )
        general = settings.sources.get("general", sources)
        folds = [_counts(seeds[start::_FOLDS]) for start in range(_FOLDS)]
        total = np.sum(folds, axis=0)
        self._general = _counts([self._buckets(text) for text in _sample(general)])
        if settings.general == "sources":
            # A document of the sources meets its own words there. So must a seed, or its score is of another kind.
            self._general += total
        self._ratios = self._log_ratios(total)
        if settings.min_score is not None:
            self.threshold = settings.min_score
            return
        scores = np.empty(len(seeds))
        for start, fold in enumerate(folds):
            ratios = self._log_ratios(total - fold)
            scores[start::_FOLDS] = [ratios[buckets].mean() for buckets in seeds[start::_FOLDS]]
        self.threshold = float(np.quantile(scores, 1 - settings.keep_seeds, method="lower"))

    def judge(self, view: View) -> str | None:
        score = self.score(view.text)
        return None if score >= self.threshold else f"score {score:.2f}, {self.threshold:.2f} asked for"

    def score(self, text: str) -> float:
        """Mean log ratio, a word or pair of words, of the frequencies in the seeds and in general; 0 for a text without
        words."""
        buckets = self._buckets(text)
        return float(self._ratios[buckets].mean()) if len(buckets) else 0.0

    def _buckets(self, text: str) -> Buckets:
        """(2 × words - 1,): the bucket of each word, and of each two in a row."""
        hashes = word_hashes(text)
        both = np.concatenate([shingles(hashes, 1), shingles(hashes, 2)])
        return (both % np.uint64(_BUCKETS)).astype(np.int64)

    def _log_ratios(self, seeds: Buckets) -> NDArray[np.float64]:
        """(_BUCKETS,): log of the frequency in the seeds over that in general. The larger of the two is scaled to
        the size of the smaller before `_SMOOTHING` is added, so that what is in neither is worth 0."""
        size = min(seeds.sum(), self._general.sum())
        ours, general = (counts * (size / max(counts.sum(), 1)) + _SMOOTHING for counts in (seeds, self._general))
        return np.log(ours / general)


def _counts(texts: list[Buckets]) -> Buckets:
    """(_BUCKETS,): how often each is there."""
    return np.bincount(np.concatenate([*texts, np.empty(0, np.int64)]), minlength=_BUCKETS)


def _pieces(settings: RelevanceSettings) -> list[str]:
    """The seeds, whole or, where they are few, in pieces."""
    read = read_all(settings.sources["seeds"], "filters.relevance.seeds", Monitor())
    texts = [document_text(document) for document in read]
    if len(texts) >= _FOLDS:
        return texts
    return [text[start : start + _PIECE] for text in texts for start in range(0, len(text), _PIECE)]


def _sample(sources: Sequence[Source]) -> Iterator[str]:
    """The beginnings of documents from all over the sources; what cannot be read there is the intake's to tell."""
    for source in sources:
        left = _SAMPLED // len(sources)
        for _, raw in everything(source, every=max(1, len(files_of(source)) // _SAMPLED_FILES)):
            if left <= 0:
                break
            if not isinstance(raw, Rejected):
                yield (text := plain_text(raw.text, raw.messages)[: min(_BEGINNING, left)])
                left -= len(text)
