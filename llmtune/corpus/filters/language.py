"""Languages to keep, told by py3langid: naive Bayes over byte sequences (Lui and Baldwin 2012)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import LanguageSettings
from llmtune.corpus.text import marks
from llmtune.extras import need

LANGUAGE = "other language"

_NO_LANGUAGE = "zxx"  # what the model calls numbers, code and the like
_CLOSE = {"no": ("nn",), "zh": ("wuu", "yue")}  # written forms that the code stands for too
_NOT_WORDS = re.compile(r"`[^`\n]+`|\b\w+://\S+|(?<!\S)\S+@\S+")
_LEAST_CHARACTERS: int = LanguageSettings.model_fields["min_characters"].default  # to tell a language by
_MOST_CHARACTERS = 2000  # looked at; spread over the document
_LEAST_LETTERS = 0.8  # of the characters of a line; code has more signs


class LanguageFilter:
    """The probability of the languages to keep, on the prose of a document."""

    reason = LANGUAGE

    def __init__(self, settings: LanguageSettings) -> None:
        self._identifier = identifier()
        self._settings = settings
        self._kept = {code for kept in settings.keep for code in (kept, *_CLOSE.get(kept, ()), _NO_LANGUAGE)}

    def judge(self, view: View) -> str | None:
        prose = prose_sample(view)
        if _says(prose, view) < self._settings.min_characters:
            return None
        ranked = self._identifier.rank(prose)
        best, share = ranked[0]
        probability = sum(share for code, share in ranked if code in self._kept)
        if best in self._kept or probability >= self._settings.min_probability:
            return None
        return f"{best} (probability {share:.2f}), {' or '.join(self._settings.keep)} asked for"


def language_of(view: View) -> str | None:
    """The likeliest language of a document, as its ISO 639-1 code; None where it has too little prose to tell, or none
    that is a language (numbers, code)."""
    prose = prose_sample(view)
    if _says(prose, view) < _LEAST_CHARACTERS:
        return None
    best = str(identifier().rank(prose)[0][0])
    return None if best == _NO_LANGUAGE else best


def _says(prose: str, view: View) -> int:
    """Its characters; one of a script without spaces says as much as two."""
    return len(prose) * (2 if view.unspaced else 1)


@cache
def identifier() -> Any:
    """py3langid's LanguageIdentifier with probabilities; its model takes half a second to load."""
    need("py3langid", "telling languages")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def prose_sample(view: View) -> str:
    """Lines of the document that are words in a row, without inline code and addresses, at most 2,000 characters or so,
    from all over it: the names in code are English everywhere, and its signs look like some language or other."""
    lines = view.all_lines
    chosen: list[str] = []
    size = 0
    # Every n-th line, then those after them, until there is enough.
    step = max(1, len(view.prose) // (4 * _MOST_CHARACTERS))
    for start in range(step):
        for line in lines[start::step]:
            line = _NOT_WORDS.sub(" ", line[:_MOST_CHARACTERS])
            letters = sum(map(str.isalpha, line)) + line.count(" ")
            if not line.isascii():
                letters += len(marks().findall(line))
            if letters >= _LEAST_LETTERS * len(line) and (len(line.split()) >= 4 or not line.isascii()):
                chosen.append(line)
                size += len(line)
                if size >= _MOST_CHARACTERS:
                    return "\n".join(chosen)
    return "\n".join(chosen)
