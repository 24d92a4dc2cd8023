"""Knowledge questions: does a model know what its documents say? Four choices each, made by rule, asked closed book.

Documents define things: in definition lists, tables, lists, under headings (`corpus/structure.py`). Of four names of
one list the model chooses the one that a description belongs to, or of four descriptions that of a name. The documents
are of the **training** split, for what is asked is what training should have taught; the questions' wording is ours and
stands in no document.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from llmtune.corpus.store import Document, read_split
from llmtune.corpus.structure import HEADINGS, Pair, PairList, pair_lists
from llmtune.evaluate.passages import CHOICES

DOCUMENTS = 10_000  # looked at; of a larger corpus those whose hash is lowest
NAME, DESCRIPTION = "name", "description"  # what is asked for
_PER_LIST = 12  # questions at most: many documents rather than much of one
_BOILERPLATE = 3  # lists in which the same description, or the same heading, stands
_OPENING = 4  # words by which two descriptions of one name are taken for the same
_NEAR = 200  # of a long list the pairs that are looked through for others
_ALIKE = 2.5  # lengths of the right choice and of another, the longer over the shorter, at most
_WORD = re.compile(r"[^\W\d_]{3,}")
_STEM = 4  # letters
_RUN = 3  # letters in a row that the eye finds again
_CLOSE = 0.2  # of a name's letters


@dataclass(frozen=True)
class KnowledgeQuestion:
    """Four choices, of which `answer` (from 0) belongs to what is given.

    asks:      NAME (a description is given) or DESCRIPTION (a name is)
    structure: kind of the list it comes from, one of those in corpus/structure.py
    title:     of the document and, where it is another, of the section
    document:  id in the corpus
    """

    asks: str
    given: str
    choices: tuple[str, ...]
    answer: int
    title: str
    structure: str
    document: str


def training_documents(corpus: Path) -> Iterator[Document]:
    """The documents of the training split that questions are made of: no augmented ones, no conversations, and of a
    large corpus a part, by their hashes. So a corpus and what augmentation made of it give the same questions."""
    lowest = heapq.nsmallest(DOCUMENTS, (document.sha256 for document in _originals(corpus)))
    yield from (document for document in _originals(corpus) if document.sha256 <= lowest[-1])


def _originals(corpus: Path) -> Iterator[Document]:
    return (document for document in read_split(corpus, "train") if document.origin is None and document.text)


def knowledge_questions(documents: Iterable[Document], most: int) -> list[KnowledgeQuestion]:
    """Up to `most` questions: one of each list, in the order of a hash of what they ask, then a second of each, and so
    on. So fewer are the beginning of more, and neither a seed nor the order of the documents has a part in it."""
    sources = [(document.id, found) for document in documents for found in pair_lists(document.text or "")]
    sources.sort(key=lambda source: source[0])
    lists = [sorted(pairs, key=_hash) for pairs in _without_boilerplate([found for _, found in sources])]
    candidates = sorted((_hash(pair), place, at) for place, pairs in enumerate(lists) for at, pair in enumerate(pairs))
    asked: Counter[int] = Counter()
    seen: dict[tuple[str, ...], int] = {}
    drawn: list[tuple[int, bytes, KnowledgeQuestion]] = []
    for way in range(2):  # a pair is asked for one way, and the other way only when all have been asked for once
        for draw, place, at in candidates:
            pair = lists[place][at]
            opening = (pair.name.casefold(), *pair.description.casefold().split()[:_OPENING])
            if asked[place] == _PER_LIST or seen.setdefault(opening, place) != place:
                continue
            asks = (NAME, DESCRIPTION)[(draw[0] + way) % 2]
            if others := _others(asks, lists[place], at):
                document, found = sources[place]
                drawn.append((asked[place], draw, _question(asks, others, pair, draw, document, found)))
                asked[place] += 1
    drawn.sort(key=lambda one: one[:2])
    return [question for _, _, question in drawn[:most]]


def _without_boilerplate(lists: Sequence[PairList]) -> list[list[Pair]]:
    """The pairs of each list that stand for themselves: none whose description, or whose heading, many lists have."""
    usable = [_usable(one) for one in lists]
    said = Counter(pair.description.casefold() for pairs in usable for pair in pairs)
    headed = Counter(
        pair.name.casefold() for one, pairs in zip(lists, usable, strict=True) if one.kind == HEADINGS for pair in pairs
    )

    def stands_for_itself(pair: Pair, kind: str) -> bool:
        repeated = said[pair.description.casefold()], headed[pair.name.casefold()] if kind == HEADINGS else 0
        return max(repeated) < _BOILERPLATE

    return [
        [pair for pair in pairs if stands_for_itself(pair, one.kind)] for one, pairs in zip(lists, usable, strict=True)
    ]


def _usable(found: PairList) -> list[Pair]:
    """The pairs whose name and description stand once in their list and that do not give themselves away: the name is
    neither in its description nor in the title. Names lose the dotted prefix that all of them have."""
    names = Counter(pair.name.casefold() for pair in found.pairs)
    texts = Counter(pair.description.casefold() for pair in found.pairs)
    once = [one for one in found.pairs if names[one.name.casefold()] == texts[one.description.casefold()] == 1]
    prefix = _dotted_prefix([pair.name for pair in once])
    short = [Pair(pair.name[prefix:], pair.description) for pair in once]
    return [pair for pair in short if not _mentions(f"{pair.description} {found.title}", pair.name)]


def _dotted_prefix(names: Sequence[str]) -> int:
    """Characters up to the last dot of what all names begin with."""
    first, last = min(names, default=""), max(names, default="")
    common = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in common).rfind(".") + 1


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def _others(asks: str, pairs: Sequence[Pair], at: int) -> list[Pair]:
    """Three others to choose from: the next that fit, of the pairs in the order of their hashes; none where there are
    too few of like form."""
    pair, found = pairs[at], list[Pair]()
    for further in range(1, min(len(pairs), _NEAR)):
        other = pairs[(at + further) % len(pairs)]
        if _fits(asks, pair, other) and not any(_overlap(one, other) for one in (pair, *found)):
            found.append(other)
            if len(found) == CHOICES - 1:
                return found
    return []


def _fits(asks: str, pair: Pair, other: Pair) -> bool:
    """Whether the other is of like form, and matching words or letters between name and description says nothing."""
    if asks == NAME:
        alike = _form(pair.name) == _form(other.name) and _ratio(pair.name, other.name) <= _ALIKE
        name, description = other.name, pair.description
    else:
        alike = _ratio(pair.description, other.description) <= _ALIKE
        name, description = pair.name, other.description
    return (
        alike
        and _common_words(name, description) == _common_words(pair.name, pair.description)
        and abs(_common_letters(name, description) - _common_letters(pair.name, pair.description)) <= _CLOSE
    )


def _form(name: str) -> tuple[bool, ...]:
    """What tells kinds of names apart at sight: options, upper case, several words."""
    return name.startswith("-"), name.isupper(), name[:1].isupper(), " " in name


def _ratio(one: str, other: str) -> float:
    return max(len(one), len(other)) / min(len(one), len(other))


def _common_words(name: str, description: str) -> int:
    """How many words of the description stand in the name, longer ones also within a word: `relname` has `names`."""
    letters = "".join(filter(str.isalnum, name.casefold()))
    parts = {part.rstrip("s") for part in _WORD.findall(name.casefold())}
    stems = {word.rstrip("s")[:_STEM] for word in _WORD.findall(description.casefold())}
    return sum(stem in (letters if len(stem) == _STEM else parts) for stem in stems)


@lru_cache(4 * _NEAR)
def _common_letters(name: str, description: str) -> float:
    """Share of the name's letters that stand in a word of the description, three or more in a row: `dat` of
    `datname` is in `database`."""
    letters = "".join(filter(str.isalnum, name.casefold()))
    runs = {
        word[at : at + _RUN] for word in _WORD.findall(description.casefold()) for at in range(len(word) - _RUN + 1)
    }
    starts = [at for at in range(len(letters) - _RUN + 1) if letters[at : at + _RUN] in runs]
    return len({at + further for at in starts for further in range(_RUN)}) / max(len(letters), 1)


def _overlap(one: Pair, other: Pair) -> bool:
    """Whether one description is all of the other, or the beginning or end or middle of it."""
    first, second = (pair.description.casefold().rstrip(".") for pair in (one, other))
    return first in second or second in first


def _question(
    asks: str, others: Sequence[Pair], pair: Pair, draw: bytes, document: str, found: PairList
) -> KnowledgeQuestion:
    answer = draw[1] % CHOICES
    chosen = [*others[:answer], pair, *others[answer:]]
    given, choices = (
        (pair.description, [one.name for one in chosen])
        if asks == NAME
        else (pair.name, [one.description for one in chosen])
    )
    return KnowledgeQuestion(asks, given, tuple(choices), answer, found.title, found.kind, document)


def _hash(pair: Pair) -> bytes:
    return hashlib.sha256(f"{pair.name}\0{pair.description}".encode()).digest()
