"""Rules that users write: what they mean, what is refused and where, and that nothing of them is ever run."""

from __future__ import annotations

import ast
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.corpus.filters.expression import FEATURES, FUNCTIONS, MOST_CHARACTERS, compiled
from llmtune.corpus.filters.features import View

VIEW = View(
    "manual/a.html", "manual", "MIT", "# Vacuum\n\nVACUUM frees room. It is run by the 'autovacuum' daemon, 24 hours."
)


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("words > 50", False),
        ("words == 14 and not contains('lorem ipsum')", True),
        ("contains('frees ROOM')", True),
        ("starts_with('# v') and ends_with('hours.')", True),
        ("count('vacuum') == 3", True),
        ("2 < words <= 14 < characters", True),
        ("2 < words <= 13 < characters", False),
        ("words > 50 or source == 'manual' and licence != 'GPL'", True),
        ("'room' in text and 'x' not in id", True),
        ("characters / words > 5 and -words + 15 == 1 and 2 * 3 - 5 == 1", True),
        ("words / 0 > 1 or words / 0 <= 1", False),
        ("not (words > 50)", True),
        ("digit_ratio < 0.05 and symbol_ratio == 0 and lines == 2", True),
    ],
)
def test_rules_mean_what_they_say(rule: str, holds: bool) -> None:
    assert compiled(rule)(VIEW) is holds


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("word > 5", "unknown name 'word'; did you mean 'words'?, at character 1: 'word > 5'"),
        (
            "words > 5 and contain('x')",
            "unknown function 'contain'; did you mean 'contains'?, at character 15: \"contain('x')\"",
        ),
        ("'ü' in text and x1 > 2", "unknown name 'x1'; there are characters, words"),
        ("words", "a rule must be a condition, such as words > 50; 'words' is a number"),
        ("words > 'a'", "a number cannot be compared with a text, at character 9"),
        ("id < 'a'", "a text cannot be compared with a text in this way, at character 6"),
        ("words and lines > 2", "a condition is needed here, 'words' is a number, at character 1"),
        ("words > 5 and", "not a condition: invalid syntax"),
        ("contains(id)", "contains(…) takes one text in quotation marks that is not empty, at character 1"),
        ("contains('')", "that is not empty"),
        ("contains('a', 'b')", "takes one text"),
        ("contains(part='a')", "is not allowed"),
        ("words > 5 if lines else words > 6", "is not allowed"),
        ("text[0] == 'a'", "'text[0]' is not allowed in a rule, at character 1"),
        ("text.upper() == 'A'", "is not allowed"),
        ("words ** 9 > 1", "is not allowed"),
        ("words > (n := 5)", "is not allowed"),
        ("f'{id}' == 'a'", "is not allowed"),
        ("[words for words in text] == 1", "is not allowed"),
        ("words > True", "decide nothing"),
        ("words > 1e400", "is not allowed"),
        ("words >" + " 9" * MOST_CHARACTERS, "at most 1000 characters"),
        ("words > " + "(" * 300 + "1" + ")" * 300, "too many nested parentheses"),
        ("not " * 200 + "words > 1", "nested too deeply"),
        ("words > " + "-" * 900 + "1", "nested too deeply"),
        ("words > 1\nand lines > 1", "a rule is one line"),
        ("words > 1\0", "not a condition"),
        ("text == '\udc80'", "not a condition"),
        ("", "not a condition"),
    ],
)
def test_what_is_refused_is_told_with_its_place(rule: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        compiled(rule)
    assert message in str(error.value)


_NAMES = st.sampled_from([*FEATURES, *FUNCTIONS, "__import__", "open", "eval", "View", "self", "__class__", "os"])
_ATOMS = st.one_of(
    _NAMES, st.integers(-9, 9**20).map(str), st.floats().map(str), st.text(max_size=4).map(repr), st.just("()")
)
_SHAPES = """
({0}).__class__ | {0}({1}) | {0}[{1}] | {0} and {1} | ({0} < {1}) | {0} + {1} | {0} / {1} | not {0} | lambda: {0}
[{0}] | {{{0}: {1}}} | {0}.{1} | {0} if {1} else {0} | ({0} := {1}) | f'{{{0}}}' | *{0} | {0} ** {1} | {0} % {1}
{0} in {1} | -{0} | await {0} | {0} is {1} | [{0} for {0} in {1}]
"""
_PIECES = st.sampled_from([shape.strip() for shape in _SHAPES.strip().replace("\n", "|").split("|")])
_RULES = st.recursive(
    _ATOMS,
    lambda inner: st.builds(lambda piece, first, second: piece.format(first, second), _PIECES, inner, inner),
    max_leaves=8,
)
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.operator, ast.Compare,
    ast.cmpop, ast.Constant, ast.Name, ast.Load, ast.Call,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.one_of(_RULES, st.text(string.printable, max_size=60)))
def test_nothing_escapes(rule: str) -> None:
    """Whatever is written is refused with a ValueError, or is made of the allowed parts and gives a truth."""
    try:
        made = compiled(rule)
    except ValueError:
        return
    assert made(VIEW) in (True, False)
    for node in ast.walk(ast.parse(rule.strip(), mode="eval")):
        assert isinstance(node, _ALLOWED)
        assert not isinstance(node, ast.Name) or node.id in FEATURES or node.id in FUNCTIONS


_NUMBERS = st.recursive(
    st.one_of(st.sampled_from(["words", "characters", "lines"]), st.integers(0, 10**18).map(str)),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(_NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), _NUMBERS)
def test_sums_are_those_of_python(left: str, order: str, right: str) -> None:
    rule = f"{left} {order} {right}"
    names = {name: float(getattr(VIEW, name)) for name in ("words", "characters", "lines")}
    numbers = re.sub(r"\b(\d+)\b", r"\1.0", rule)  # as ours: floating point
    try:
        expected = eval(numbers, {"__builtins__": {}}, names)  # noqa: S307
    except ZeroDivisionError:
        assert compiled(rule)(VIEW) in (True, False)
    else:
        assert compiled(rule)(VIEW) is expected
