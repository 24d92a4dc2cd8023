"""Rule `headings`: a heading becomes a question, and the paragraphs below it are its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llmtune.augment.instruct import verbs, words
from llmtune.augment.instruct.draft import Draft, answer_of
from llmtune.augment.instruct.outline import Section
from llmtune.augment.instruct.wording import Wording

# Headings that stand in most documents of a kind and mean something only with what they are below of.
_OVERVIEW = re.compile(r"description|overview|introduction|summary|about|abstract|background|purpose")
_SYNTAX = re.compile(r"synopsis|syntax|usage|signature")
_ASKED = {
    "return value": "What does {} return?",
    "return values": "What does {} return?",
    "returns": "What does {} return?",
    "discussion": "What should I know about {}?",
    "notes": "What should I keep in mind about {}?",
    "remarks": "What should I keep in mind about {}?",
    "usage notes": "What should I keep in mind about {}?",
    "caveats": "What are the caveats of {}?",
    "limitations": "What are the limitations of {}?",
    "restrictions": "What are the restrictions of {}?",
    "bugs": "What are the known bugs of {}?",
    "exit status": "What does the exit status of {} mean?",
    "outputs": "What does {} output?",
    "output": "What does {} output?",
    "inputs": "What does {} take as its input?",
    "rationale": "What is the rationale of {}?",
    "security": "What about security with {}?",
    "compatibility": "How compatible is {} with standards and other systems?",
    "requirements": "What does {} require?",
    "prerequisites": "What are the prerequisites of {}?",
}
_SKIPPED = re.compile(
    r"see also|authors?|copyright.*|licen[cs]e|references?|contents|table of contents|acknowledge?ments|bibliography|"
    r"further (?:reading|information)|related reading|index|names?|git|examples?|changes|history|files|resources|"
    r"change ?log|parameters|arguments|options|diagnostics|credits|reporting bugs|misc(?:ellaneous)?|other.*|general|"
    r"links?|todo|future work|conclusions?|preface|colophon|glossary",
    re.IGNORECASE,
)
_HOW_TO = re.compile(r"(?:how to|to) (.+)", re.IGNORECASE)
_EXPLAINED = re.compile(r"(?:how|why|when|what|where|which|who)\b.+", re.IGNORECASE)
_IS = re.compile(r"(?:(An?|The)\s+)?([^,.;:()]{2,60}?)\s+(is|are)\s+(?:an?|the|one|used|similar|like)\b")
_KIND = re.compile(r"^(?:(?:async|static|abstract|class|def|function|method|exception|data|module)\s+)+(?=\w)", re.I)
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_NEAR = 40  # characters within which a name stands at the beginning of what is said of it
_LONGEST = 90  # characters of a heading that is asked for


def heading_drafts(sections: Sequence[Section], wording: Wording, subject: str | None, most: int) -> Iterator[Draft]:
    """A draft of each section that begins with prose, or of a synopsis with its code; answers up to `most`
    characters."""
    for section in sections:
        heading = section.heading.rstrip(":").strip()
        if section.aside or not section.blocks or not heading or len(heading) > _LONGEST or _SKIPPED.fullmatch(heading):
            continue
        first = section.blocks[0]
        if _SYNTAX.fullmatch(heading.lower()) and first.kind == "code":
            name = _above(section)
            if name and words.is_name(name, wording):
                yield Draft("headings", f"What is the syntax of {words.as_code(name)}?", first.text, first.text)
            continue
        if first.kind != "prose":
            continue
        answer = answer_of(section.blocks, most)
        question = _question(section, heading, answer or first.text, wording, subject)
        if question:
            yield Draft("headings", question, answer, first.text)


def context_of(section: Section, wording: Wording) -> str:
    """` in `ALTER TABLE``, ` in the context of user management`: what the section stands below; empty of a title."""
    return within(section.headings[:-1], wording)


def within(headings: Sequence[str], wording: Wording) -> str:
    """The same of the headings above: the nearest that is a name, else the title."""
    if not headings:
        return ""
    above = next((one for one in reversed(headings) if words.is_name(one, wording)), headings[0])
    if words.is_name(above, wording):
        return f" in `{bare(above)}`"
    if "`" in above:
        return f" in {words.lower_first(above)}"
    return f" in the context of {words.in_a_sentence(above, wording)}"


def _above(section: Section) -> str:
    """The document's title; none of a title itself."""
    return section.headings[0] if len(section.headings) > 1 else ""


def _question(section: Section, heading: str, answer: str, wording: Wording, subject: str | None) -> str | None:
    above = _above(section)
    small = heading.lower()
    if above and (_OVERVIEW.fullmatch(small) or small in _ASKED):
        name = words.as_code(above) if words.is_name(above, wording) else words.in_a_sentence(above, wording)
        if small in _ASKED:
            return _ASKED[small].format(name)
        return f"What does {name} do?" if name.startswith("`") else f"Give me an overview of {name}."
    if _OVERVIEW.fullmatch(small) or _SYNTAX.fullmatch(small):
        return None
    weak = above and (subject is None or len(_ARTICLE.sub("", heading).split()) == 1)
    if words.is_question(heading):
        return heading
    if subject is not None and heading.lower() == subject.lower():
        return None
    if found := _HOW_TO.fullmatch(heading):
        return f"How do I {words.in_a_sentence(words.lower_first(found[1]), wording)}{_weakly(weak, section, wording)}?"
    if _EXPLAINED.fullmatch(heading):
        return f"Explain {words.in_a_sentence(words.lower_first(heading), wording)}{_weakly(weak, section, wording)}."
    if words.is_name(heading, wording):
        return _about_name(heading, answer)
    context = _weakly(weak, section, wording)
    phrase = words.in_a_sentence(heading, wording)
    if verbs.is_imperative(heading):
        return words.choice(("How do I {}{}?", "How can I {}{}?"), heading).format(phrase, context)
    if verbs.is_gerund(heading):
        asked: tuple[str, ...] = ("How do I go about {}{}?", "What should I know about {}{}?", "Explain {}{}.")
        return words.choice(asked, heading).format(phrase, context)
    if (found := _IS.match(answer)) and _same(found[2], heading):
        article = f"{found[1].lower()} " if found[1] else ""
        named = found[2] if words.is_proper(found[2], wording) else words.lower_first(found[2])
        return f"What {found[3]} {article}{named}{context}?"
    asked = ("Explain {}{}.", "What should I know about {}{}?", "Give me an overview of {}{}.", "Tell me about {}{}.")
    return words.choice(asked, heading).format(phrase, context)


def _weakly(weak: object, section: Section, wording: Wording) -> str:
    return context_of(section, wording) if weak else ""


def _about_name(heading: str, answer: str) -> str:
    name = bare(heading)
    called = "(" in heading and "class " not in heading
    behind = answer.partition(name)[2].lstrip("`() ") if name in answer[: len(name) + _NEAR] else ""
    does = verbs.does_something(answer) or verbs.does_something(behind) or verbs.is_imperative(answer)
    if called or does:
        return words.choice((f"What does `{name}` do?", f"Explain what `{name}` does."), heading)
    return words.choice((f"What is `{name}`?", f"Explain `{name}`."), heading)


def bare(heading: str) -> str:
    """The name in a heading, without its arguments and what kind of thing it is."""
    return _KIND.sub("", heading.strip("`")).split("(")[0].strip("` ")


def _same(words_of: str, heading: str) -> bool:
    """Whether the grammatical subject of a sentence is what the heading names."""
    one, other = (
        {word.lower().rstrip("s") for word in re.findall(r"\w+", text)} - {"a", "an", "the"}
        for text in (words_of, heading)
    )
    return bool(one) and one == other
