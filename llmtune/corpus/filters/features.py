"""A document as the filters see it, and what they measure on it. Each figure is worked out when first asked for."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from operator import itemgetter

from llmtune.corpus.filters.stop_words import STOP_WORDS
from llmtune.corpus.text import UNSPACED, marks

# Fenced code of Markdown, to the fence that closes it or to the end.
_FENCED = re.compile(r"^[ \t]*(`{3,}+|~{3,}+)[^\n]*\n(?:.*?^[ \t]*\1[`~]*[ \t]*$|.*\Z)\n?", re.MULTILINE | re.DOTALL)
_TABLE_RULES = re.compile(r"^[ \t|:-]+$\n?|\|", re.MULTILINE)  # lines of dashes too
_HEADING = re.compile(r"\n#{1,6} ")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"\w")
_UNSPACED = re.compile(f"([{UNSPACED}])")
_BLANK = re.compile(r"\n(?:[ \t]*\n)+")
_LETTERS_LOOKED_AT = 500
_BULLETS = ("- ", "* ", "+ ", "•")
_ELLIPSES = ("...", "…")
_LANGUAGES_OF = {
    word: [code for code, others in STOP_WORDS.items() if word in others]
    for words in STOP_WORDS.values()
    for word in words
}


@dataclass(frozen=True)
class View:
    """A cleaned document. text: its plain text, all turns of a conversation in a row. of_prose: whether it can be held
    to the form of prose, which a conversation and source code can not.

    Words are what white space parts, and each character of a script without spaces. Lines are those that are not blank.
    `characters` and `words` are of the whole text; all else is of the prose. Shares are between 0 and 1."""

    id: str
    source: str
    licence: str
    text: str
    of_prose: bool = True

    @cached_property
    def prose(self) -> str:
        """The text without fenced code, the rules of tables and the marks of headings, which are no prose: a page
        about a language would else be a repetitive one with too many symbols."""
        text = self.text
        if "```" in text or "~~~" in text:
            text = _FENCED.sub("", text)
        if "|" in text:
            text = _TABLE_RULES.sub(" ", text)
        return _HEADING.sub("\n", f"\n{text}").strip()

    @cached_property
    def lower_text(self) -> str:
        return self.text.lower()

    @cached_property
    def prose_words(self) -> list[str]:
        """The words of the prose, in their order, punctuation attached."""
        return _words(self.prose)

    @cached_property
    def _distinct(self) -> Counter[str]:
        """How often each word of the prose is in it: a third of all are different ones."""
        return Counter(self.prose_words)

    @cached_property
    def unspaced(self) -> bool:
        """Whether most words are of a script without spaces."""
        return not self.prose.isascii() and len(_UNSPACED.findall(self.prose)) > len(self.prose_words) / 2

    @cached_property
    def all_lines(self) -> list[str]:
        """The lines that are not blank, without the space around them."""
        return [line for line in map(str.strip, self.prose.split("\n")) if line]

    @cached_property
    def all_paragraphs(self) -> list[str]:
        """What blank lines part."""
        return _BLANK.split(self.prose) if self.prose else []

    @property
    def characters(self) -> int:
        return len(self.text)

    @cached_property
    def words(self) -> int:
        return len(_words(self.text))

    @property
    def lines(self) -> int:
        return len(self.all_lines)

    @property
    def paragraphs(self) -> int:
        return len(self.all_paragraphs)

    @cached_property
    def _kinds_of_words(self) -> tuple[int, int, int]:
        """(words with a letter, words with a letter or digit, characters of the latter)."""
        with_letter = with_either = characters = 0
        for word, count in self._distinct.items():
            letter = word.isalpha() or _LETTER.search(word)  # most are letters alone, which is told the faster
            if not letter and not word.isascii():
                letter = marks().search(word)  # by itself, where each character is a word
            if letter or _WORD.search(word):
                with_letter += count if letter else 0
                with_either += count
                characters += count * len(word)
        return with_letter, with_either, characters

    @property
    def mean_word_length(self) -> float:
        """Of words with a letter or digit; 0 where there are none."""
        _, words, characters = self._kinds_of_words
        return characters / words if words else 0.0

    @cached_property
    def symbol_ratio(self) -> float:
        """Hash signs, or ellipses if there are more, per word."""
        hashes, ellipses = self.prose.count("#"), sum(map(self.prose.count, _ELLIPSES))
        return max(hashes, ellipses) / max(len(self.prose_words), 1)

    @cached_property
    def digit_ratio(self) -> float:
        """Share of the digits 0 to 9 among the characters of the words."""
        raw = self.prose.encode()
        return (len(raw) - len(raw.translate(None, b"0123456789"))) / max(sum(map(len, self.prose_words)), 1)

    @cached_property
    def letter_ratio(self) -> float:
        """Share of letters among the characters of the words."""
        letters = sum(map(str.isalpha, self.prose))
        if not self.prose.isascii():
            letters += len(marks().findall(self.prose))
        return letters / max(sum(map(len, self.prose_words)), 1)

    @cached_property
    def uppercase_ratio(self) -> float:
        """Share of capitals among the letters."""
        return sum(map(str.isupper, self.prose)) / max(sum(map(str.isalpha, self.prose)), 1)

    @property
    def alphabetic_ratio(self) -> float:
        """Share of words that hold a letter."""
        return self._kinds_of_words[0] / max(len(self.prose_words), 1)

    @cached_property
    def unique_ratio(self) -> float:
        """Different words per word, case aside."""
        return len(self._lower_words) / max(len(self.prose_words), 1)

    @cached_property
    def stop_words(self) -> int:
        """How many different stop words of one language it holds, at most eight."""
        found = Counter(code for word in self._lower_words & _LANGUAGES_OF.keys() for code in _LANGUAGES_OF[word])
        return max(found.values(), default=0)

    @property
    def in_script_of_stop_words(self) -> bool:
        """Whether most of its first letters are of a script in which a language with stop words is written."""
        letters = islice(filter(str.isalpha, self.prose), _LETTERS_LOOKED_AT)
        script, _ = max(Counter(map(_script, letters)).items(), key=itemgetter(1), default=("LATIN", 0))
        return script in _scripts_of_stop_words()

    def stop_words_of(self, wanted: Iterable[str]) -> int:
        """How many of these words it holds, case aside."""
        return len(self._lower_words.intersection(wanted))

    @cached_property
    def _lower_words(self) -> set[str]:
        return set(map(str.lower, self._distinct))

    @cached_property
    def bullet_ratio(self) -> float:
        """Share of lines that start with a bullet."""
        return sum(line.startswith(_BULLETS) for line in self.all_lines) / max(self.lines, 1)

    @cached_property
    def ellipsis_ratio(self) -> float:
        """Share of lines that end with an ellipsis."""
        if not any(map(self.prose.__contains__, _ELLIPSES)):
            return 0.0
        return sum(line.endswith(_ELLIPSES) for line in self.all_lines) / max(self.lines, 1)

    @cached_property
    def code_ratio(self) -> float:
        """Share of the characters that stand in fenced code."""
        return 1 - len(_FENCED.sub("", self.text)) / len(self.text) if self.text else 0.0

    @cached_property
    def duplicate_line_ratio(self) -> float:
        """Share of lines that stand above already."""
        return 1 - len(set(self.all_lines)) / self.lines if self.all_lines else 0.0

    @cached_property
    def duplicate_paragraph_ratio(self) -> float:
        """Share of paragraphs that stand above already."""
        return 1 - len(set(self.all_paragraphs)) / self.paragraphs if self.all_paragraphs else 0.0


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


@cache
def _scripts_of_stop_words() -> frozenset[str]:
    return frozenset(_script(letter) for words in STOP_WORDS.values() for letter in "".join(words) if letter.isalpha())


def _words(text: str) -> list[str]:
    if not text.isascii() and _UNSPACED.search(text):
        text = _UNSPACED.sub(r" \1 ", text)
    return text.split()
