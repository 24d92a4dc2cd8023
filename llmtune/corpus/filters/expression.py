"""Rules that a user writes, `words > 50 and not contains("lorem ipsum")`: parsed by Python's `ast`, checked against a
short list of what is allowed, and put together from functions of ours. Nothing that is written is ever evaluated.

    expression   or, and, not, comparisons (also chained), `in` for texts, + - * /, numbers, texts, names, calls
    names        FEATURES (numbers and texts of a document)
    calls        FUNCTIONS of one text in quotation marks

Types are known before any document is seen, so a rule that is accepted cannot fail later; it has at most
`MOST_CHARACTERS` characters, each of which costs at most one pass over the document.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmtune.corpus.filters.features import View

MOST_CHARACTERS = 1000
_DEEPEST = 40  # levels; each costs a few frames of Python's stack when the rule is asked
_TOO_DEEP = "the rule is nested too deeply; write several"

_NUMBER, _TEXT, _TRUTH = "a number", "a text", "a condition"

# name → type; the attributes of `View` of the same name
FEATURES = dict.fromkeys(
    (
        "characters", "words", "lines", "paragraphs", "mean_word_length", "symbol_ratio", "digit_ratio",
        "letter_ratio", "uppercase_ratio", "alphabetic_ratio", "unique_ratio", "stop_words", "bullet_ratio",
        "ellipsis_ratio", "code_ratio", "duplicate_line_ratio", "duplicate_paragraph_ratio",
    ),
    _NUMBER,
) | dict.fromkeys(("id", "source", "licence", "text"), _TEXT)  # fmt: skip

# name → (type, what it does with the text of a document and the text in brackets); case aside
FUNCTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "contains": (_TRUTH, lambda text, part: part in text),
    "starts_with": (_TRUTH, lambda text, part: text.startswith(part)),
    "ends_with": (_TRUTH, lambda text, part: text.endswith(part)),
    "count": (_NUMBER, lambda text, part: text.count(part)),
}

_ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_SUMS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right if right else math.nan,
}  # fmt: skip

_Made = tuple[str, Callable[["View"], Any]]  # type, value for a document


def compiled(rule: str) -> Callable[[View], bool]:
    """The rule as a function of a document. Raises ValueError that says what is wrong, where, and the nearest name."""
    if len(rule) > MOST_CHARACTERS:
        raise ValueError(f"a rule has at most {MOST_CHARACTERS} characters, this one {len(rule)}; write several")
    if "\n" in rule.strip():
        raise ValueError("a rule is one line; write `>-` instead of `|`, or several rules")
    try:
        with warnings.catch_warnings(action="ignore"):  # of the compiler, about escapes in texts
            tree = ast.parse(rule.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"not a condition: {error.msg}{_place(rule, (error.offset or 1) - 1)}") from None
    except ValueError as error:  # a null character, half a character
        raise ValueError(f"not a condition: {error}") from None
    except (RecursionError, MemoryError):
        raise ValueError(_TOO_DEEP) from None
    if _depth(tree) > _DEEPEST:
        raise ValueError(_TOO_DEEP)
    kind, value = _made(tree.body, rule)
    if kind != _TRUTH:
        raise ValueError(f"a rule must be a condition, such as words > 50; '{rule.strip()}' is {kind}")
    return value


def _made(node: ast.expr, rule: str) -> _Made:
    """One node and all below it."""
    match node:
        case ast.BoolOp(op=op, values=values):
            parts = [_of(value, _TRUTH, rule) for value in values]
            every = all if isinstance(op, ast.And) else any
            return _TRUTH, lambda view: every(part(view) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _of(operand, _TRUTH, rule)
            return _TRUTH, lambda view: not inner(view)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _of(operand, _NUMBER, rule)
            return _NUMBER, lambda view: -inner(view)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SUMS:
            first, second, work = _of(left, _NUMBER, rule), _of(right, _NUMBER, rule), _SUMS[type(op)]
            return _NUMBER, lambda view: work(first(view), second(view))
        case ast.Compare():
            return _TRUTH, _comparison(node, rule)
        case ast.Constant(value=bool()):
            raise _wrong(node, rule, "True and False decide nothing")
        case ast.Constant(value=int() | float() as number) if abs(number) < 1e300:
            constant = float(number)  # whole numbers of Python grow without bound, and fail where they are divided
            return _NUMBER, lambda view: constant
        case ast.Constant(value=str() as text):
            return _TEXT, lambda view: text
        case ast.Name(id=name):
            if name not in FEATURES:
                raise _wrong(node, rule, f"unknown name '{name}'{_nearest(name, FEATURES)}")
            of = operator.attrgetter(name)
            return FEATURES[name], (lambda view: float(of(view))) if FEATURES[name] == _NUMBER else of
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name not in FUNCTIONS:
                raise _wrong(node, rule, f"unknown function '{name}'{_nearest(name, FUNCTIONS)}")
            return _call(node, name, arguments, rule)
    raise _wrong(node, rule, f"'{ast.unparse(node)[:40]}' is not allowed in a rule")


def _depth(tree: ast.AST) -> int:
    """Levels of the tree."""
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    return depth


def _call(node: ast.expr, name: str, arguments: list[ast.expr], rule: str) -> _Made:
    match arguments:
        case [ast.Constant(value=str() as part)] if part:
            kind, work = FUNCTIONS[name]
            folded = part.lower()
            return kind, lambda view: work(view.lower_text, folded)
    raise _wrong(node, rule, f"{name}(…) takes one text in quotation marks that is not empty")


def _comparison(node: ast.Compare, rule: str) -> Callable[[View], bool]:
    """`0.1 < digit_ratio <= 0.3` as in Python; both sides of one type; texts by == != and `in` alone."""
    sides = [_made(side, rule) for side in (node.left, *node.comparators)]
    links: list[tuple[Callable[[Any, Any], bool], Callable[[View], Any], Callable[[View], Any]]] = []
    for place, (op, (left, first), (right, second)) in enumerate(zip(node.ops, sides, sides[1:], strict=False)):
        at = node.comparators[place]
        if left != right or left == _TRUTH:
            raise _wrong(at, rule, f"{left} cannot be compared with {right}")
        if left == _TEXT and isinstance(op, ast.In):
            links.append((lambda part, whole: part in whole, first, second))
        elif left == _TEXT and isinstance(op, ast.NotIn):
            links.append((lambda part, whole: part not in whole, first, second))
        elif type(op) in _ORDERS and (left == _NUMBER or isinstance(op, ast.Eq | ast.NotEq)):
            links.append((_ORDERS[type(op)], first, second))
        else:
            raise _wrong(at, rule, f"{left} cannot be compared with {right} in this way")
    return lambda view: all(order(first(view), second(view)) for order, first, second in links)


def _of(node: ast.expr, kind: str, rule: str) -> Callable[[View], Any]:
    """A node that must be of this type."""
    found, value = _made(node, rule)
    if found != kind:
        raise _wrong(node, rule, f"{kind} is needed here, '{ast.unparse(node)[:40]}' is {found}")
    return value


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"


def _wrong(node: ast.expr, rule: str, what: str) -> ValueError:
    offset = len(rule.strip().encode()[: node.col_offset].decode(errors="ignore"))
    return ValueError(f"{what}{_place(rule, offset)}")


def _place(rule: str, offset: int) -> str:
    """` at character 9: …word > 50 and`."""
    return f", at character {offset + 1}: {rule.strip()[offset : offset + 30]!r}"
