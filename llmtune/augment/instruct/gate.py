"""The gate: which drafts are pairs, and why one is none."""

from __future__ import annotations

import re

from llmtune.augment.instruct.draft import Draft

NOT_ALONE = "needs what is not there"
SHORT = "answer too short"
LONG = "answer too long"
LINKS = "a list of links or names"
REPEATS = "answer repeats the question"
CUT = "cut in the middle"
OF_PASSAGE = "speaks of its passage"
UNSUPPORTED = "not supported by the passage"
RUBBISH = "reply not in the form asked for"
REFUSED = "refused by the endpoint"
UNANSWERED = "no reply from the endpoint"
ERRORS = (UNANSWERED, REFUSED, RUBBISH)  # what `on_error` is about
TWICE = "asked for twice"
SAID = "answer given already"
NEAR = "nearly a training answer"
MORE = "beyond pairs_per_document"
SHARE = "beyond the share"

_FENCED = re.compile(r"^\s*(`{3,}|~{3,}).*?^\s*\1\s*$", re.DOTALL | re.MULTILINE)
_URL = re.compile(r"<?(?:https?|ftp)://\S+")
_LIST = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s.*$|^\|.*$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_LEAST_WORDS = 5  # of prose, beside links and lists
_NEW_WORDS = 3  # that an answer must have beside those of the question
_ENDS = (".", "!", "?", ":", ")", "”", '"', "`", "|", "。")


def fault(draft: Draft, least: int, most: int) -> str | None:
    """The reason why it is no pair; None of one that is. least, most: characters of an answer."""
    answer = draft.answer
    if not answer:
        return NOT_ALONE
    if len(answer) < least:
        return SHORT
    if len(answer) > most:
        return LONG
    prose = _FENCED.sub("", answer).strip()
    code = prose != answer.strip()
    said = _WORD.findall(_LIST.sub("", _URL.sub("", prose)))
    if not code and len(said) < _LEAST_WORDS:
        return LINKS
    asked = {word.casefold() for word in _WORD.findall(draft.question)}
    if not code and len({word.casefold() for word in _WORD.findall(answer)} - asked) < _NEW_WORDS:
        return REPEATS
    if prose and not _is_whole(prose):
        return CUT
    return None


def _is_whole(prose: str) -> bool:
    """Whether brackets and code marks close, and it ends as text ends."""
    ends_in_list = _LIST.match(prose.split("\n")[-1]) is not None
    return (
        prose.count("`") % 2 == 0
        and (ends_in_list or prose.endswith(_ENDS))
        and _LIST.sub("", prose).count("(") == _LIST.sub("", prose).count(")")
        and prose.count("“") == prose.count("”")
    )
