"""Names and what is said of them, read from the structure of a text: definition lists, tables, lists, headings.

The text is the corpus's own, Markdown-like whatever the documents were (llmtune/corpus/readers). What the readers write
without a mark is known by its form: a definition list is a short line that ends although there was room for the next
word, and prose directly below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmtune.corpus.text import UNSPACED

DEFINITIONS, TABLE, ITEMS, HEADINGS = "definitions", "table", "list", "headings"

_LEAST, _MOST = 25, 200  # characters of a description
_WORDS, _LETTERS = 4, 0.8  # of a description, at least: words, share of letters and spaces
_NAME = 50  # characters of a name, at most; of the line it stands in, twice as many
_NAME_WORDS = 5
FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
_UNDERLINES = '#*=-~^"'  # from the first level down, as Python's and most others' documents have them
_UNDERLINE = re.compile(rf"([{re.escape(_UNDERLINES)}])\1{{2,}}$")
_NUMBER = re.compile(r"(?:(?:chapter|section|appendix|part)\s+)?(?:\d+|[A-Z]|[IVX]+)(?:\.\d+)*[.:]\s+", re.IGNORECASE)
_TABLE_RULE = re.compile(r"\|?\s*:?-{3,}:?\s*(?:\|\s*:?-{3,}:?\s*)*\|?$")
_CELL_BORDER = re.compile(r"(?<!\\)\|")
BULLET = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+")
_ITEM = re.compile(r"(.{2,100}?)(?:\s+(?:--+|[–—-])\s+|:\*{0,2}\s+)(.+)")
_ENTRY = re.compile(r"\s*(\S+(?:\s\S+){0,4}?)(?:\s+(?:--+|[–—])\s+|\s{2,}|\t)(\S.*)")
_ASIDE = re.compile(r"(?:note|tip|hint|warning|caution|important|attention|danger|example)s?:?$", re.IGNORECASE)
_CODE = re.compile(r"(`+)(.+?)\1")
_OPTION = re.compile(r"--\w[\w-]+")
_KEYWORD = re.compile(r"(?:async |abstract |static )?(?:class|def|function|method|property|exception|data)\s+(?=\w)")
SENTENCE = re.compile(r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<!\bvs\.)(?<=[.!?])\s+(?=[A-Z`“\"(])|(?<=[。！？])")
POINTING = re.compile(r"(?:this|these|that|it|they|same|see|there|here|as|in this|the following)\b", re.IGNORECASE)
_REFERENCE = re.compile(r"\s*\((?:see|cf\.) [^()]*\)")
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


@dataclass(frozen=True)
class Pair:
    """A name and what is said of it, one sentence or two."""

    name: str
    description: str


@dataclass
class PairList:
    """The pairs of one table, or of one kind under one heading.

    kind:  one of DEFINITIONS, TABLE, ITEMS, HEADINGS
    title: the document's first heading and the nearest above the list, without their numbers
    """

    kind: str
    title: str
    pairs: list[Pair] = field(default_factory=list)


def pair_lists(text: str) -> list[PairList]:
    """The lists of pairs in a text, in its order; the headings of one level under one other are a list too."""
    found: dict[tuple[object, ...], PairList] = {}
    first: list[str] = []  # the document's first heading
    above: list[tuple[int, str]] = []  # (level, heading), from the widest to the nearest
    section = 0
    untold = False  # whether the nearest heading is still without a sentence
    key: tuple[object, ...]
    for number, block in enumerate(_blocks(text)):
        heading = heading_of(block)
        if heading:
            level, title, block = heading
            name = (name_in(title) if title.startswith("`") else None) or title.replace("`", "")
            if not _ASIDE.fullmatch(name):
                above = [*(one for one in above if one[0] < level), (level, name)]
                first = first or [name]
                section, untold = number, True
        if not block:
            continue
        nearest = above[-1:]
        if is_table(block):
            key, pairs = (TABLE, number), rows_of(block)
        elif pairs := items_of(block):
            key = (ITEMS, section)
        elif pairs := definition_of(block):
            key = (DEFINITIONS, section)
        elif untold and _is_paragraph(block):
            key, pairs = (HEADINGS, above[-1][0], *above[:-1]), [(above[-1][1], " ".join(block))]
            nearest = above[-2:-1]
        else:
            continue
        untold = False
        title = ", ".join(dict.fromkeys([*first, *(name for _, name in nearest)])).replace("`", "")
        for pair in filter(None, (_pair(*one) for one in pairs)):
            found.setdefault(key, PairList(str(key[0]), title)).pairs.append(pair)
    return list(found.values())


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines between empty ones; code in fences is left out."""
    block: list[str] = []
    fence = ""
    for line in text.split("\n"):
        opened = FENCE.match(line)
        if fence:
            if opened and opened[1].startswith(fence):
                fence = ""
            continue
        if opened:
            fence = opened[1]
        if line.strip() and not opened:
            block.append(line.rstrip())
            continue
        if block:
            yield block
        block = []
    if block:
        yield block


def heading_of(block: list[str]) -> tuple[int, str, list[str]] | None:
    """(level, title without its number, the lines behind it) of the heading that a block begins with."""
    marked = _HEADING.match(block[0])
    if marked:
        level, name, rest = len(marked[1]), marked[2], block[1:]
    elif len(block) > 1 and (rule := _UNDERLINE.match(block[1])) and len(block[1]) >= len(block[0]) - 1:
        level, name, rest = 1 + _UNDERLINES.index(rule[1]), block[0], block[2:]
    else:
        return None
    return level, _NUMBER.sub("", name.strip(), count=1), rest


def is_table(block: list[str]) -> bool:
    """Whether the lines are a table with a rule under its head."""
    return len(block) > 2 and _TABLE_RULE.fullmatch(block[1].strip()) is not None


def rows_of(block: list[str]) -> list[tuple[str, str]]:
    """The first column's cells, each with that of the column that says most."""
    lines = [_CELL_BORDER.split(line.strip().strip("|")) for line in block]
    rows = [[cell.strip().replace("\\|", "|") for cell in line] for line in lines]
    body = [row for row in rows[2:] if len(row) == len(rows[0]) > 1]
    words = [sum(len(_WORD.findall(cell)) for cell in column) for column in list(zip(*body, strict=True))[1:]]
    return [(row[0], row[1 + words.index(max(words))]) for row in body]


def items_of(block: list[str]) -> list[tuple[str, str]]:
    """`- name: description`, or lines `name -- description` and `name    description`; each may go on further in."""
    bulleted = BULLET.match(block[0]) is not None
    starts, form = (BULLET, _ITEM) if bulleted else (_ENTRY, _ENTRY)
    margin = _indent(block[0])
    items: list[str] = []
    for line in block:
        if starts.match(line) and (bulleted or _indent(line) <= margin):
            items.append(line[len(bullet[0]) :] if (bullet := BULLET.match(line)) and bulleted else line)
        elif items and (bulleted or _indent(line) > margin):
            items[-1] += " " + line.strip()
        else:
            return []
    return [(found[1], found[2]) for found in map(form.fullmatch, items) if found]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_paragraph(block: list[str]) -> bool:
    """Whether it is prose, and says something of what it follows."""
    marked = block[0].startswith((" ", "\t", ">")) or BULLET.match(block[0])
    return not marked and not POINTING.match(block[0]) and described(" ".join(block)) is not None


def definition_of(block: list[str]) -> list[tuple[str, str]]:
    """Terms on lines of their own and what defines them below: further in, behind a colon, or after lines that end
    although the next word would have had room."""
    term, *rest = block
    if not rest or term.startswith((" ", "\t", ">")):
        return []
    if rest[0].startswith(": ") or all(map(_indent, rest)):
        return [(term, " ".join(line.strip() for line in rest).removeprefix(": "))]
    width = max(map(len, block))
    for place, line in enumerate(rest):
        word = _WORD.search(line)
        if word is None or len(block[place]) + 1 + word.end() > width:
            break
        if described(line):
            return [(term, line)]
    return []


def _pair(term: str, text: str) -> Pair | None:
    """Name and description as they are asked for; None where one of them is no such thing."""
    name, description = name_in(term), described(text)
    return Pair(name, description) if name and description else None


def name_in(term: str) -> str | None:
    """The name in the line, cell or heading that defines it: without arguments, types and other spellings."""
    term = term.strip().strip("*").rstrip(":").strip("* ")
    if len(term) > 2 * _NAME or term.endswith((".", ",", ";", "!", "?")):
        return None
    spans = [found[2].strip() for found in _CODE.finditer(term)]
    if term.startswith("`") and spans:
        if not all(any(map(str.isalnum, span)) for span in spans):
            return None  # an operator between its operands
        options = [span for span in spans if _OPTION.match(span)]
        name = options[-1] if options else spans[0]
    else:
        name = term.replace("`", "")
    name = _KEYWORD.sub("", name, count=1)
    name = re.split(r"\s*[(\[{=<]|\s*,\s|\s+or\s+", name, maxsplit=1)[0].strip().strip("\"'")
    fits = 2 <= len(name) <= _NAME and len(name.split()) <= _NAME_WORDS
    return name if fits and any(map(str.isalpha, name)) else None


def described(text: str) -> str | None:
    """The first sentence of a description, with the next where it is short or speaks of the one before; None where it
    is no prose."""
    sentences = SENTENCE.split(_REFERENCE.sub("", " ".join(text.split())))
    found = sentences[0]
    for sentence in sentences[1:]:
        if len(found) >= _LEAST and not (POINTING.match(found) and len(found) + len(sentence) < _MOST):
            break
        found = f"{found} {sentence}"
    letters = sum(one.isalpha() or one.isspace() for one in found)
    is_prose = len(_WORD.findall(found)) >= _WORDS and letters >= _LETTERS * len(found) and not found.endswith(":")
    return found if _LEAST <= len(found) <= _MOST and is_prose else None
