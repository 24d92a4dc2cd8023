"""C4's rules (Raffel et al. 2020), as far as they make sense for documents of a domain."""

from __future__ import annotations

import re

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import SentenceSettings

SENTENCES = "too few sentences, or filler"

# A mark after a letter or a closing bracket, before white space: not that of `3.` and `a.b`. Those of Chinese, Japanese
# and Hindi stand anywhere.
_END = re.compile(r"(?<=[^\W\d_]|[)\]\"'`*”’»])[.!?]+[)\]\"'`*”’»]*(?=\s|$)|[。！？।]+")


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
        found = 0
        for paragraph in view.all_paragraphs:
            if view.unspaced or len(paragraph.split(maxsplit=asked.min_words)) >= asked.min_words:
                found += sum(1 for _ in _END.finditer(paragraph))
                if found >= asked.min_sentences:
                    return None
        return f"{found} sentences, {asked.min_sentences} asked for"
