"""Filters: each judges a cleaned document by one idea, and says why it is to be left out.

To add one: a file here with a class that has `reason` and `judge`, a block in `FilterSettings`, a line in `filters_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from llmtune.corpus.filters.settings import FilterSettings

if TYPE_CHECKING:
    from llmtune.corpus.filters.features import View
    from llmtune.corpus.settings import Source


class Filter(Protocol):
    """reason: one wording, under which the card counts what it drops."""

    reason: str

    def judge(self, view: View) -> str | None:
        """None to keep the document, or a detail: what was found, and what is asked for."""
        ...


def filters_of(settings: FilterSettings, sources: Sequence[Source] = ()) -> list[Filter]:
    """The filters that are on, the cheap ones first. sources: of the corpus, for what learns from them. Raises
    MissingExtra, and LlmtuneError for seeds that cannot be read."""
    made: list[Filter] = []
    if settings.length is not None:
        from llmtune.corpus.filters.length import LengthFilter

        made.append(LengthFilter(settings.length))
    if settings.rules:
        from llmtune.corpus.filters.rules import RuleFilter

        made.append(RuleFilter(settings.rules))
    if settings.quality is not None:
        from llmtune.corpus.filters.quality import QualityFilter

        made.append(QualityFilter(settings.quality))
    if settings.sentences is not None:
        from llmtune.corpus.filters.sentences import SentenceFilter

        made.append(SentenceFilter(settings.sentences))
    if settings.repetition is not None:
        from llmtune.corpus.filters.repetition import RepetitionFilter

        made.append(RepetitionFilter(settings.repetition))
    if settings.languages is not None:
        from llmtune.corpus.filters.language import LanguageFilter

        made.append(LanguageFilter(settings.languages))
    if settings.relevance is not None:
        from llmtune.corpus.filters.relevance import RelevanceFilter

        made.append(RelevanceFilter(settings.relevance, sources))
    return made


def modules_of(settings: FilterSettings) -> dict[str, str]:
    """The optional modules that the filters import → what for."""
    return {"py3langid": "telling languages"} if settings.languages is not None else {}
