"""Whether an answer says what its passage says, as far as words tell.

    numbers and names   each must stand in the passage, as a whole word or with a plural's s
    content words       a share of them must, by their stems: the first letters, so that "indexes" is in "indexing"

That is a check against inventions, not a proof: a "not" more or less is not seen. Names are what is no plain word:
identifiers, options, words with capitals inside or, within a sentence, in front.
"""

from __future__ import annotations

import re

from llmtune.corpus.text import UNSPACED

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_SIGN = rf"[^\W{UNSPACED}]"  # of a word that has an end: PostgreSQL stands without spaces in Japanese too
_TOKEN = re.compile(rf"--?{_SIGN}(?:{_SIGN}|-)*|(?!\d){_SIGN}+(?:[_./:-]{_SIGN}+)*")
_WORD = re.compile(rf"[{UNSPACED}]{{2}}|[^\W\d_]{{4,}}")
_STEM = 5  # letters
_BEGINS = re.compile(r"(?:^|[.!?:]\s+|\n\s*(?:[-*+•]\s+)?|[“\"(`])$")
_COMMON = re.compile(
    r"(?:that|this|with|from|which|when|where|what|have|been|will|would|could|should|also|into|than|then|them|they|"
    r"their|there|these|those|such|some|more|most|only|other|because|while|does|each|both|about|after|before|being|"
    r"between|very|your|must|used|using|uses|means|example|following|para|como|pour|dans|avec|eine|einer|nicht|sind)$"
)


def names_and_numbers(text: str) -> set[str]:
    """In small letters."""
    found = set(_NUMBER.findall(text))
    for one in _TOKEN.finditer(text):
        token = one[0]
        inside = any(map(str.isupper, token[1:])) or not token.isalpha()
        capital = token[0].isupper() and len(token) > 1 and not _BEGINS.search(text[: one.start()])
        if inside or capital:
            found.add(token.casefold())
    return found


def unsupported(text: str, passage: str) -> set[str]:
    """The names and numbers of a text that the passage does not have."""
    small = passage.casefold()
    numbers = set(_NUMBER.findall(passage))
    return {
        one for one in names_and_numbers(text) if (one not in numbers if one[0].isdigit() else not _has(small, one))
    }


def _has(passage: str, name: str) -> bool:
    return re.search(rf"(?<!{_SIGN}){re.escape(name)}s?(?!{_SIGN})", passage) is not None


def support(answer: str, passage: str) -> float:
    """Share of the answer's content words, each counted once, whose stems the passage has; 1 of an answer without."""
    wanted = _stems(answer)
    return len(wanted & _stems(passage)) / len(wanted) if wanted else 1.0


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in _WORD.findall(text.casefold()) if not _COMMON.match(word)}
