"""What kind of words a heading or a description is, as far as its form says it, and how it goes into a sentence.

English only, as the questions are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from llmtune.augment.instruct import verbs
from llmtune.augment.instruct.wording import Wording

_COMMON = re.compile(r"\b(?:the|of|and|to|is|are|that|for|with|this|be|by|as|it|not|can|which|from|when|if|an)\b")
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = 0.12  # of the words of a text are among the common ones; 0.2 and more of manuals, below 0.05 of others
_SHORT = 40  # words, below which nothing can be said

_NAME = re.compile(
    r"`[^`]+`(?:\s*\([^()]*\))?|[A-Z][A-Z_]+(?: [A-Z_]{2,})*|\S*[\w)][_./:]\w\S*|[a-z]+[A-Z]\S*|(?:[A-Z][a-z]+){2,}|"
    r"[a-z][a-z0-9]{2,}(?:-[a-z]+)*"
)
_CAPITAL = re.compile(r"(?<![\w`.-])[A-Z][a-z]*(?:-[A-Za-z][a-z]*)*(?![\w`]|[.-]\w)")
_IN_NAME = re.compile(r" (?:in|of) `[^`]+`[.?]$|(?:with|using) `[^`]+`[.?,]", re.IGNORECASE)
_QUESTION = re.compile(r"(?:what|why|when|where|who|which|how|is|are|can|do|does|should|will)\b.*\?", re.IGNORECASE)


def is_english(text: str) -> bool:
    """Whether a text's most common words are those of English; of a few words always."""
    words = _WORD.findall(text[:20_000].lower())
    return len(words) < _SHORT or len(_COMMON.findall(" ".join(words))) >= _ENGLISH * len(words)


def is_question(heading: str) -> bool:
    """`Why use partitions?`"""
    return _QUESTION.fullmatch(heading) is not None


def is_name(heading: str, wording: Wording) -> bool:
    """Whether it is what is typed: an identifier, a command. Capitals alone are none (man pages have such headings),
    unless the document has them as code."""
    if not _NAME.fullmatch(heading):
        return False
    return not heading.replace(" ", "").isalpha() or not heading.isupper() or heading in wording.code


def as_code(name: str) -> str:
    """Between code marks."""
    return name if name.startswith("`") else f"`{name}`"


def in_a_sentence(phrase: str, wording: Wording) -> str:
    """A heading as it stands within a sentence: its capitals go where the document has all of these words in small
    letters too, or it begins with a verb; of a heading in capitals those of words that the document has so only
    there."""
    verb, _, rest = phrase.partition(" ")
    if verbs.is_gerund(phrase) or verbs.is_imperative(phrase):
        return f"{verb.lower()} {in_a_sentence(rest, wording)}"
    if phrase.isupper():  # a heading in capitals; what the document has in capitals as well is an abbreviation
        return re.sub(r"[A-Z]{2,}", lambda one: one[0] if one[0] in wording.capitals else one[0].lower(), phrase)
    small = all(word.lower() in wording.small for word in _CAPITAL.findall(phrase))
    return _CAPITAL.sub(lambda one: one[0].lower(), phrase) if small else phrase


def is_proper(phrase: str, wording: Wording) -> bool:
    """Whether the document has its first word with a capital within a sentence too."""
    return phrase.split(" ", 1)[0] in wording.proper


def lower_first(sentence: str) -> str:
    """`Sets the limit` → `sets the limit`; `SQL commands` stays."""
    first = sentence.split(" ", 1)[0]
    return sentence if sum(map(str.isupper, first)) > 1 or first == "I" else sentence[:1].lower() + sentence[1:]


def choice(options: Sequence[str], *key: str) -> str:
    """One of the options, by a hash of the key: the same everywhere and always."""
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def with_subject(question: str, subject: str | None) -> str:
    """The question as asked of the subject, where it does not name it, nor what belongs to it."""
    first, *rest = question.split("\n", 1)
    if subject is None or subject.casefold() in first.casefold() or _IN_NAME.search(first):
        return question
    ordered = first.startswith(("Explain", "Show", "Give", "Tell", "Define"))
    if " in " in first:
        first = f"About {subject}: {lower_first(first)}" if ordered else f"In {subject}, {lower_first(first)}"
    elif ordered or rest or first.split(" ", 2)[1][:1].isupper() or choice((" first", " last"), question) == " last":
        first = f"{first[:-1]} in {subject}{first[-1]}"
    else:
        first = f"In {subject}, {lower_first(first)}"
    return "\n".join([first, *rest])
