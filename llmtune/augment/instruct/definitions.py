"""Rule `definitions`: names in definition lists, tables and lists, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llmtune.augment.instruct import verbs, words
from llmtune.augment.instruct.draft import Draft
from llmtune.augment.instruct.headings import within
from llmtune.augment.instruct.outline import Block, Section
from llmtune.augment.instruct.prose import standing_alone
from llmtune.augment.instruct.wording import Wording
from llmtune.corpus.structure import described, items_of, name_in, rows_of

_NOUNS = re.compile(
    r"argument|attribute|class|column|command|directive|element|event|exception|field|flag|function|hook|keyword|macro|"
    r"member|method|mode|module|operator|option|parameter|property|role|setting|subcommand|type|variable|view"
)
_SPAN = re.compile(r"`([^`]+)`")
_SHOWN = 60  # characters of a term that is shown whole
_OPTION = re.compile(r"(--?[\w?][\w-]*)")
_THIS = tuple(map(re.compile, (r"This \w+ (.+)", r"This \w+ \w+ (.+)")))
_GLOSSARY = re.compile(r"\b(?:glossary|terms|terminology|definitions|vocabulary|acronyms)\b", re.IGNORECASE)
_BE = re.compile(r"(?:is|are|can|will|must|has|does|may|should|was|would|might|cannot)\b", re.IGNORECASE)
_CALLED = frozenset(("function", "method", "operator", "macro"))
_NEAR = 40  # characters within which a description that has the name speaks of it
_END = re.compile(r"[.!?:][)”\"']?$")
_TERM_WORDS = 4  # of a term in a glossary
_DISTINCT = 6  # characters of a name that says by itself where it belongs


def definition_drafts(sections: Sequence[Section], wording: Wording, subject: str | None) -> Iterator[Draft]:
    """A draft of each name that is what is typed, and of each term of a definition list."""
    for section in sections:
        glossary = _GLOSSARY.search(" ".join(section.headings)) is not None
        for block in section.blocks:
            for term, said in _said_in(block):
                if draft := _draft(term, said, section, glossary, wording, subject):
                    yield draft


def _said_in(block: Block) -> list[tuple[str, str]]:
    """(term, text) pairs of a block."""
    if block.kind == "definition":
        return [(_best(block.terms), block.text)]
    lines = block.text.split("\n")
    if block.kind == "table":
        pairs = rows_of(lines)
    elif block.kind in ("list", "other"):
        pairs = items_of(lines)
    else:
        return []
    return [(term, said) for term, said in pairs if term.strip("* ").startswith(("`", "-"))]


def _best(terms: Sequence[str]) -> str:
    """Of several spellings of an option the longest, else the first."""
    options = [term for term in terms if term.startswith("--")]
    return max(options or terms[:1], key=len)


def _is_term(term: str) -> bool:
    """`Foreign key`: a word or a few that a glossary may define; no label with a colon."""
    return term[:1].isupper() and not term.endswith(":") and len(term.split()) <= _TERM_WORDS and "`" not in term


def _draft(
    term: str, said: str, section: Section, glossary: bool, wording: Wording, subject: str | None
) -> Draft | None:
    name = _shown(term)
    if name is None or described(said) is None or (sum(map(str.isalnum, name)) < 2 and not name.startswith("-")):
        return None
    typed = term.lstrip("* ").startswith(("`", "-")) or (words.is_name(name, wording) and not name.isalpha())
    if not typed and not (glossary and _is_term(term)):
        return None
    noun = _noun(section.heading, term)
    shown = words.as_code(name) if typed else words.in_a_sentence(name, wording)
    spoken = _spoken(shown, said) if typed and name not in said[:_NEAR] else said
    answer, _ = standing_alone(spoken, opens=True)
    does = verbs.does_something(spoken.removeprefix(f"{shown} ")) or verbs.is_imperative(said)
    question = _question(shown, noun, bool(typed), does, _context(name, section, wording, subject))
    return Draft("definitions", question, _ended(answer), said)


def _spoken(shown: str, said: str) -> str:
    """`Sets the limit.`, `This option sets the limit.` → `name sets the limit.`"""
    if verbs.begins_with_verb(said) or _BE.match(said):
        return f"{shown} {words.lower_first(said)}"
    for pattern in _THIS:
        found = pattern.match(said)
        if found and (verbs.begins_with_verb(found[1]) or _BE.match(found[1])):
            return f"{shown} {found[1]}"
    return said


def _shown(term: str) -> str | None:
    """The term as it is asked for: an option without its value, code as it stands where it is short."""
    term = term.strip().strip("*").strip()
    if found := _OPTION.match(term.strip("`")):
        return found[1]
    spans = _SPAN.findall(term)
    if len(spans) == 1 and term == f"`{spans[0]}`" and len(spans[0]) <= _SHOWN and "(" not in spans[0]:
        return str(spans[0])
    return name_in(term)


def _noun(heading: str, term: str) -> str | None:
    """`option` below `Options` or `Connection options`; of what is called, only where the term has its brackets."""
    if " and " in heading.lower():
        return None
    last = heading.lower().replace("`", "").split(" ")[-1]
    if not last.endswith("s"):
        return None
    singular = f"{last[:-3]}y" if last.endswith("ies") else last.removesuffix("s")
    singular = singular.removesuffix("e") if singular.endswith("sse") else singular
    return singular if _NOUNS.fullmatch(singular) and (singular not in _CALLED or "(" in term) else None


def _context(name: str, section: Section, wording: Wording, subject: str | None) -> str:
    """Where the name belongs, unless it says so itself."""
    context = within([one for one in section.headings if not _GLOSSARY.search(one)], wording)
    distinct = len(name) >= _DISTINCT and re.search(r"\w[_.:]\w|[a-z][A-Z]", name)
    if name.startswith(context.removeprefix(" in ").strip("`").replace("-", " ") + " "):
        return ""
    return "" if distinct and subject is not None and not context.endswith("`") else context


def _question(shown: str, noun: str | None, typed: bool, does: bool, context: str) -> str:
    if not typed:
        asked = ("What is meant by “{}”{}?", "What does “{}” mean{}?", "Define “{}”{}.")
        return words.choice(asked, shown, context).format(shown, context)
    the = f"the {noun} {shown}" if noun and not shown.startswith("`-") else shown
    if noun == "column" and not does and not shown.startswith("`-"):
        asked = ("What does {} hold{}?", "What is in {}{}?", "What is {}{}?")
    elif does or noun in _CALLED or shown.startswith("`-"):
        asked = ("What does {} do{}?", "What is {} for{}?", "Explain what {} does{}.")
    else:
        asked = ("What is {}{}?", "Explain {}{}.", "What does {} mean{}?")
    return words.choice(asked, shown, context).format(the, context)


def _ended(answer: str) -> str:
    """With a capital and a full stop."""
    answer = answer[:1].upper() + answer[1:]
    return answer if not answer or _END.search(answer) else answer + "."
