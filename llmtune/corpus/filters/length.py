"""How long a document may be."""

from __future__ import annotations

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import LengthSettings

LENGTH = "too few or too many words"


class LengthFilter:
    """Bounds on words and characters, of Gopher by default (Rae et al. 2021)."""

    reason = LENGTH

    def __init__(self, settings: LengthSettings) -> None:
        self._settings = settings

    def judge(self, view: View) -> str | None:
        if not view.of_prose:
            return None
        asked, words = self._settings, view.words
        if asked.max_characters is not None and view.characters > asked.max_characters:
            return f"{view.characters} characters, at most {asked.max_characters} asked for"
        if asked.min_words is not None and words < asked.min_words:
            return f"{words} words, {asked.min_words} asked for"
        if asked.max_words is not None and words > asked.max_words:
            return f"{words} words, at most {asked.max_words} asked for"
        return None
