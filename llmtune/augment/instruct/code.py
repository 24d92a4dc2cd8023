"""Rule `code`: a code block with the sentence that leads into it, or the paragraph that explains it.

"To add a column to a table:"  + code              →  How do I add a column to a table? – the code
code + "This query returns the name of each city"  →  What does this do? – the explanation
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llmtune.augment.instruct import verbs, words
from llmtune.augment.instruct.draft import Draft
from llmtune.augment.instruct.headings import bare
from llmtune.augment.instruct.outline import Block, Section
from llmtune.augment.instruct.prose import points_elsewhere, sentences_of, standing_alone
from llmtune.augment.instruct.wording import Wording

_OPENING = re.compile(
    r"^(?:(?:for (?:example|instance)|as an example|similarly|likewise|alternatively|now|then|next|finally|first|also|"
    r"or|and|so|thus|instead|in addition|again|e\.g\.),?\s+)+",
    re.IGNORECASE,
)
_VERB_PHRASES = (
    re.compile(r".*\bhow to (.+)", re.IGNORECASE),
    re.compile(
        r"(?:in order )?to (.+?)(?:,\s+(?:simply |just )?"
        r"(?:use|run|execute|enter|type|issue|do|invoke|you|we|one|it is|simply|just)\b.*)?",
        re.IGNORECASE,
    ),
    re.compile(r"(?:you|we|one) (?:can|could|may|might) (?:\w+ly |also |then |now |just )?((?!be\b)\w+ .+)", re.I),
)
_TAIL = re.compile(
    r",?\s+(?:(?:with|by|using|via|in|through|as in|like|as|from|at)\s+(?:(?:a|the)\s+)?(?:\w+\s+)?)?"
    r"(?:like (?:this|so|the following)|as follows|for example|for instance|this way|these (?:commands|steps)|this|"
    r"(?:something like )?(?:the )?following(?: \w+){0,3}|with|using|use|like|by|as|via|run|do|type|say|is|"
    r"the (?:command|query|statement|syntax)s?)$",
    re.IGNORECASE,
)
_POINTS = re.compile(  # to what the code is not, or what stood before
    r"\b(?:it|its|them|their|they|this|these|those|above|below|following|previous|preceding|same|such|here|there|again|"
    r"instead|now|our|us|we|also|too|another|other|both|former|latter|more|one|the results?|all is|"
    r"that(?=(?:\s+\w+)?\s*$))\b|;|^\w+ that\b",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"(?:this|the (?:above|preceding|previous)|in this|in the above|here,?|these)\b\s*(.*)", re.IGNORECASE
)
_ABOVE = re.compile(
    r"\b([Tt])he (?:above|preceding|previous) (?=(?:\w+ )?(?:example|query|command|code|statement|function|"
    r"definition|declaration|line|program|call|expression|script|configuration|snippet)s?\b)"
)
_LEAST_WORDS, _MOST_WORDS = 3, 24  # of what is asked for
_LONGEST = 600  # characters of the sentence that asks for it; one that never ends is none
_LEAST_CODE = 8  # characters


def code_drafts(sections: Sequence[Section], wording: Wording, subject: str | None) -> Iterator[Draft]:
    """A draft of each code block that a sentence leads into, and of each that a paragraph explains."""
    for section in sections:
        blocks = section.blocks
        for at, block in enumerate(blocks):
            if block.kind != "code" or len(_inside(block)) < _LEAST_CODE:
                continue
            before = blocks[at - 1] if at else Block("other", "")
            behind = blocks[at + 1] if at + 1 < len(blocks) else None
            explained = _explanation(behind)
            leads = before.text.endswith(":") and before.kind in ("prose", "definition")
            if leads and (draft := _how_to(before, block, explained, section, wording, subject)):
                yield draft
            elif explained:
                yield Draft("code", f"What does this do?\n\n{block.text}", explained, behind.text if behind else "")


def _inside(block: Block) -> str:
    return "\n".join(block.text.split("\n")[1:-1]).strip()


def _explanation(block: Block | None) -> str:
    """The paragraph behind a code block, where it is about that; empty where it is not."""
    if block is None or block.kind != "prose":
        return ""
    found = _EXPLAINS.match(block.text)
    if not found or not any(verbs.begins_with_verb(rest) for rest in (found[1], found[1].partition(" ")[2])):
        return ""
    said = _ABOVE.sub(lambda one: f"{one[1]}his ", block.text)
    text, _ = standing_alone(said, opens=False)
    return text if _EXPLAINS.match(text) else ""


def _how_to(
    before: Block, code: Block, explained: str, section: Section, wording: Wording, subject: str | None
) -> Draft | None:
    wanted = _wanted(sentences_of(before.text)[-1].rstrip(": "))
    if wanted is None:
        return None
    alone = not _POINTS.search(wanted) and not points_elsewhere(wanted)
    title = section.title
    asked = words.choice(("How do I {}?", "How can I {}?", "Show me how to {}."), wanted, code.text)
    if wanted.startswith("show "):
        asked = "How do I {}?"
    question = asked.format(_mine(wanted))
    if words.is_name(title, wording) and bare(title).casefold() not in wanted.casefold():
        question = f"With `{bare(title)}`, {words.lower_first(question)}" if question.endswith("?") else question
    elif subject is None and title and not words.is_name(title, wording):
        question = f"{question[:-1]} in the context of {words.in_a_sentence(title, wording)}{question[-1]}"
    answer = code.text + (f"\n\n{explained}" if explained else "")
    return Draft("code", question, answer if alone else "", before.text)


def _wanted(sentence: str) -> str | None:
    """What the code is for, as a verb and what it is done to: `add a column to a table`."""
    if len(sentence) > _LONGEST:
        return None
    sentence = _OPENING.sub("", sentence, count=1)
    found = next((match[1] for pattern in _VERB_PHRASES if (match := pattern.fullmatch(sentence))), None)
    if found is None and verbs.is_imperative(sentence):
        found = words.lower_first(sentence)
    if found is None:
        return None
    while shorter := _TAIL.search(found):
        found = found[: shorter.start()]
    count = len(found.split())
    return found.strip(" ,") if _LEAST_WORDS <= count <= _MOST_WORDS else None


def _mine(phrase: str) -> str:
    """As the person says it who asks."""
    phrase = re.sub(r"\byour\b", "my", phrase)
    phrase = re.sub(r"\byourself\b", "myself", phrase)
    return re.sub(r"\byou\b", "I", phrase)
