"""Prose that stands alone: without pointers to what is not there.

A document speaks of its other parts: "see Section 5", "as shown below", "Table 8.2 lists". In an answer these parts are
missing. A sentence that points elsewhere is left out, and where the next one goes on from it, the text ends before it.
"""

from __future__ import annotations

import re

from llmtune.corpus.structure import POINTING, SENTENCE

_ASIDE = re.compile(r"\s*\((?:also )?(?:see|cf\.|as described|described|refer)\b(?:[^()]|\([^()]*\))*\)", re.IGNORECASE)
_TWO_STOPS = re.compile(r"(?<!\.)\.\.(?=\s|$)")  # where an aside stood between them
_PLACE = r"(?:section|chapter|appendix|part|table|figure|listing|example|page|paragraph|subsection)"
_ELSEWHERE = re.compile(
    rf"""\b(?:
    {_PLACE}s?\s(?:\d|(?-i:[A-Z]\.\d|[IVX]+\b))
    | (?:this|these|the\s(?:next|previous|preceding|following|rest\sof\sthis|last|current|above|below|other|remaining))
      \s{_PLACE}s?\b
    | (?:the|this)\s(?:tutorial|document|manual|book|man\s?page|reference\spage)\b(?!\s(?:file|type|object))
    | (?:see|refer\sto|consult)\s(?:also\s|the\s|[`"“]?[\w-]+\(\d\)|[`"“]|(?-i:[A-Z])|how\b|its\b|below|above)
    | (?:shown|described|listed|given|mentioned|discussed|defined|explained|noted|documented|detailed|illustrated|seen|
       outlined|said|specified|covered|indicated)\s(?:\w+\s)?(?:below|above|earlier|later|previously|elsewhere|here|next)
    | (?:above|below)(?=[,.;:)]|\sfor\b|$)
    | (?:the|an?)\s(?:\w+\s)?(?:above|below|aforementioned|latter|former)\b
    | as\s(?:we|you)(?:['’]ve|\shave)?\s(?:saw|seen|see|mentioned|noted|said)
    | as\sshown | so\sfar | we\shave\sbeen | before\swe | let['’]?s\b | we\swill\b | we['’]ll\b
    | following|aforesaid
    | (?:described|discussed|documented|explained|covered|defined|listed)\s(?:\w+\s)?in\s(?:the\s)?(?:[`"“]|(?-i:[A-Z]))
    | for\s(?:more|further|additional|full|complete)\s(?:\w+\s)?(?:information|details?|explanations?|discussion)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_LEADING = re.compile(r"\b(?:the )?following\b|\bas follows\b|\b(?:shown )?below\b", re.IGNORECASE)
_GOES_ON = re.compile(
    r"(?:this|these|those|that|it|its|they|their|he|she|such|same|see|there(?:fore|by)|thus|hence|here|however|also|"
    r"another|but|and|so|then|next|now|finally|otherwise|instead|similarly|likewise|moreover|furthermore|"
    r"in (?:this|that|these|such|addition|contrast|other words|either|both)|for (?:example|instance|this|these|that)|"
    r"as (?:a result|an example|such|before|above|with|well)|on the other hand|again|still|nevertheless|conversely|"
    r"at this|the (?:above|former|latter|following|second|third|other|next|last|result|same)|both|neither|one of|"
    r"in fact|of course|we (?:start|begin|now|will|have|saw)|according to (?:this|that)|"
    r"if (?:so|not|this|that|it|they|these)|when (?:this|that|it|they|these)|after (?:this|that|these)|"
    r"because of (?:this|that|these)|alternatively|note(?: that| also|,)|unlike (?:this|that)|except|first,|second,)\b",
    re.IGNORECASE,
)


def sentences_of(paragraph: str) -> list[str]:
    """The sentences, without asides that only refer to other places."""
    return SENTENCE.split(_TWO_STOPS.sub(".", _ASIDE.sub("", paragraph)).strip())


def goes_on(sentence: str) -> bool:
    """Whether its beginning speaks of what was said before."""
    bare = sentence.lstrip("(“\"'*_ ")
    return POINTING.match(bare) is not None or _GOES_ON.match(bare) is not None


def points_elsewhere(sentence: str) -> bool:
    """Whether it speaks of another place in the documents."""
    return _ELSEWHERE.search(sentence) is not None


def standing_alone(paragraph: str, *, opens: bool, leads: bool = False) -> tuple[str, bool]:
    """The part of a paragraph that needs nothing else, and whether that is its end.

    opens: it is the beginning of an answer; leads: what its last sentence leads into ("as follows:") comes behind it.
    """
    sentences = sentences_of(paragraph)
    kept: list[str] = []
    whole = True
    missing = opens  # whether the sentence before is not there
    for number, sentence in enumerate(sentences):
        last = number == len(sentences) - 1
        if missing and goes_on(sentence):
            return " ".join(kept), False
        if last and leads and sentence.endswith(":") and not points_elsewhere(_LEADING.sub("", sentence)):
            kept.append(sentence)
        elif points_elsewhere(sentence) or sentence.endswith(":"):
            if opens and not kept:
                break  # what is told comes without its beginning
            missing, whole = True, whole and not last
            continue
        else:
            kept.append(sentence)
        missing = False
    return " ".join(kept), whole and bool(kept)
