"""Gopher's quality rules (Rae et al. 2021, appendix A1.1): whether a document looks like prose."""

from __future__ import annotations

from collections.abc import Iterator

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import QualitySettings

QUALITY = "not like prose"


class QualityFilter:
    """The mean length of words, symbols, bullets, ellipses, letters, stop words."""

    reason = QUALITY

    def __init__(self, settings: QualitySettings) -> None:
        self._settings = settings

    def judge(self, view: View) -> str | None:
        return next(self._found(view), None) if view.of_prose else None

    def _found(self, view: View) -> Iterator[str]:
        """What is wrong with the document, cheap rules first."""
        asked = self._settings
        if not view.unspaced:  # where words have no spaces between them, they have no length here either
            yield from _outside(
                "mean length of the words", view.mean_word_length, asked.min_word_length, ".1f", least=True
            )
            yield from _outside("mean length of the words", view.mean_word_length, asked.max_word_length, ".1f")
        yield from _outside("hash signs or ellipses per word", view.symbol_ratio, asked.max_symbols, ".2f")
        yield from _outside("lines that start with a bullet", view.bullet_ratio, asked.max_bullet_lines, ".0%")
        yield from _outside("lines that end with an ellipsis", view.ellipsis_ratio, asked.max_ellipsis_lines, ".0%")
        if asked.max_digits is not None:
            yield from _outside("digits", view.digit_ratio, asked.max_digits, ".0%")
        if asked.min_stop_words is not None and not view.unspaced:
            found = view.stop_words_of(asked.stop_words) if asked.stop_words else view.stop_words
            if found or asked.stop_words or view.in_script_of_stop_words:
                yield from _outside("different stop words", found, asked.min_stop_words, "d", least=True)
        if asked.min_alphabetic is not None:
            yield from _outside("words with a letter", view.alphabetic_ratio, asked.min_alphabetic, ".0%", least=True)


def _outside(what: str, found: float, bound: float | None, style: str, *, least: bool = False) -> Iterator[str]:
    """A sentence where `found` is on the wrong side of the bound, the largest value allowed or the `least`."""
    if bound is not None and (found < bound if least else found > bound):
        yield f"{what}: {found:{style}}, at {'least' if least else 'most'} {bound:{style}} asked for"
