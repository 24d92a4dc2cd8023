"""C4's rules (Raffel et al. 2020), as far as they make sense for documents of a domain."""

from __future__ import annotations

import re
from functools import cache

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import SentenceSettings
from llmtune.corpus.text import marks

SENTENCES = "too few sentences, or filler"

# These stand anywhere: of Chinese and Japanese, Indic scripts, Urdu and Arabic, Armenian, Burmese, Ethiopic, Khmer.
_OTHER_ENDS = "。！？।॥۔؟։။።។៕"
_NO_ENDS = re.compile("[\u0e00-\u0eff]")  # Thai and Lao put a space between sentences, and elsewhere


class SentenceFilter:
    """Counts the ends of sentences, so that pages of links and headings are told. Where C4 asks for lines that end a
    sentence, this asks for paragraphs that hold one: lines of a plain text end anywhere."""

    reason = SENTENCES

    def __init__(self, settings: SentenceSettings) -> None:
        self._settings = settings

    def judge(self, view: View) -> str | None:
        if not view.of_prose:
            return None
        asked = self._settings
        if asked.lorem_ipsum and "lorem ipsum" in view.lower_text:
            return "'lorem ipsum'"
        if asked.curly_brackets and "{" in view.prose:
            return "a curly bracket outside code"
        if asked.min_sentences is None:
            return None
        if view.unspaced and len(_NO_ENDS.findall(view.prose)) > len(view.prose_words) / 2:
            return None
        found = 0
        for paragraph in view.all_paragraphs:
            if view.unspaced or len(paragraph.split(maxsplit=asked.min_words)) >= asked.min_words:
                found += sum(1 for _ in _ends().finditer(paragraph))
                if found >= asked.min_sentences:
                    return None
        return f"{found} sentences, {asked.min_sentences} asked for"


@cache
def _ends() -> re.Pattern[str]:
    """What ends a sentence: a mark after a letter or a closing bracket, before white space, not that of `3.` and
    `a.b`."""
    before = rf"(?:[^\W\d_]|{marks().pattern}|[)\]\"'`*”’»])"  # looked for where a mark stands, and nowhere else
    return re.compile(rf"[.!?](?<={before}[.!?])[.!?]*[)\]\"'`*”’»]*(?=\s|$)|[{_OTHER_ENDS}]+")
