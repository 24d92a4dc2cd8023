"""Verbs as headings and descriptions have them: `Create a table`, `Creating a table`, `Sets the limit`."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Third person, as descriptions begin: "Sets the number of rows."
_VERBS = _words(
    """accepts adds adjusts alters allows appends applies asks assigns associates attaches attempts calculates
    calls casts causes changes checks clears closes compares computes concatenates configures conflicts contains
    controls converts copies counts creates decodes defines deletes denotes describes designates detaches
    determines disables discards displays drops emits enables encodes ensures escapes evaluates executes expands
    extracts fetches fills finds fires flushes forces formats frees generates gets gives grants guarantees holds
    identifies ignores implements imports includes indicates informs initializes inserts instructs invokes
    iterates joins limits lists loads locks logs looks makes maps marks matches measures merges modifies moves
    names normalizes obtains omits opens outputs overrides parses performs permits prefixes prepares prevents
    prints processes produces prohibits prompts provides puts quotes raises reads recomputes reconstructs
    records reduces refers refreshes registers releases reloads removes renames replaces reports represents
    requests requires resets resolves restores restricts retrieves returns reverses rewrites rolls rotates
    rounds runs saves says scans searches selects sends separates serves sets shifts shows signals skips sorts
    specifies splits starts states stops stores suppresses switches takes tells terminates tests throws
    transforms translates treats trims truncates tries turns unlocks updates uses validates verifies waits warns
    wraps writes"""
)
# Those that are nouns as well, unless of this kind of word follows.
_PLURALS = _words(
    """calls casts causes changes checks controls copies counts displays drops forces formats limits lists locks logs
    makes maps marks matches measures names prints processes prompts quotes reads records releases reports requests
    returns rounds runs scans searches sets shifts shows signals splits starts states stops stores switches tests
    transforms turns updates uses waits writes"""
)
_AFTER_NOUN = re.compile(
    r"(?:of|to|in|for|from|that (?:are|is|can|will|may|have|were)|which|are|is|can|will|may|must|have|were|made|and|or|"
    r"on|by|with)\b"
)
_OF = re.compile(r"\w+ of\b")
_WITH_OBJECT = re.compile(r"[A-Za-z][a-z]+[^\Wsui]s (?:a|an|the|whether|if|all|any|each|every|its)\b")
_STATES = _words("""contains describes denotes holds identifies includes indicates represents stores""")
_IMPERATIVES = _words(
    """access add adjust alter append apply assign attach build cancel change check choose clean clear clone close
    combine commit compare compile compute concatenate configure connect convert copy count create customize cut
    debug declare decode define delete deploy detach determine disable disconnect display download drop edit
    enable encode enforce escape examine exclude execute export extract fetch filter find fix force format
    generate get give grant handle hide implement import improve include increase initialize insert inspect
    install invoke iterate join keep limit list load lock log make manage merge migrate modify monitor move open
    optimize override parse perform place prepare prevent print process protect provide publish pull push put
    query quote raise read reassign rebuild recover reduce register reload remove rename repair replace reset
    resolve restart restore restrict resume retrieve return revert revoke rewrite rotate round run save schedule
    search select send set show skip sort specify split start stop store submit suppress switch take test trim
    truncate try tune undo uninstall unlock update upgrade use validate verify view wait watch wrap write"""
)
_ALSO_NOUNS = _words(
    """access build cancel change check clone commit copy cut debug display export filter force format import index
    join limit list load lock log merge move override place process pull push query quote read return run save
    schedule search set show sort split start stop store test trim try update upgrade use view wait watch write"""
)
_NO_GERUND = _words("""string thing king ring spring nothing something anything everything during""")
_AFTER_GERUND = re.compile(
    r"(?:a|an|the|your|its|all|any|each|new|other|multiple|to|from|with|in|on|into|for|up|out|off|and|between|by|as|"
    r"data|information|[\w-]+[^s\W]s)\b",
    re.IGNORECASE,
)


def begins_with_verb(text: str) -> bool:
    """`Sets the limit`: but not `Changes to the limit`, `Names of limits`."""
    first, _, rest = text.partition(" ")
    if _WITH_OBJECT.match(text):
        return True
    return first.lower() in _VERBS and bool(rest) and not (_AFTER_NOUN.match(rest) and first.lower() in _PLURALS)


def does_something(text: str) -> bool:
    """Whether it begins with a verb for something done, not for what there is: `Holds` does not."""
    return begins_with_verb(text) and text.partition(" ")[0].lower() not in _STATES


def is_imperative(phrase: str) -> bool:
    """`Create table films`: a verb, and what it is done to. But not `Push certificate`, in which what could be a verb
    describes a noun."""
    first, _, rest = phrase.partition(" ")
    verb = first.lower()
    if verb not in _IMPERATIVES or not rest or first.isupper() or rest.startswith(("and ", "or ")):
        return False
    return (
        verb not in _ALSO_NOUNS
        or rest.startswith("`")
        or (_AFTER_GERUND.match(rest) is not None and not _OF.match(rest))
    )


def is_gerund(phrase: str) -> bool:
    """`Creating an index`: but not `Logging collector`, in which it describes a noun."""
    first, _, rest = phrase.lower().partition(" ")
    return first.endswith("ing") and len(first) > 5 and first not in _NO_GERUND and bool(_AFTER_GERUND.match(rest))
