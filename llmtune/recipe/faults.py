"""pydantic's errors → problems a person can act on, at the place in the YAML where the value stands."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from llmtune.recipe.source import Path, Problem, Source

# pydantic error type → what was expected
EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a block of 'key: value' lines",
    "model_type": "a block of 'key: value' lines",
    "model_attributes_type": "a block of 'key: value' lines",
    "none_required": "nothing (null)",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}

UNKNOWN_KEY = "unknown key "  # what is told of a key that no block has begins so


@dataclass(frozen=True)
class _Fault:
    path: Path  # in the YAML
    union: Path | None  # the value of several possible types that this is one branch of
    error: ErrorDetails


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the few words there are, or nothing when there are many."""
    words = [str(name) for name in known]
    match = get_close_matches(word.lower(), [name.lower() for name in words], n=1, cutoff=0.6)
    if match:
        return f"; did you mean '{next(name for name in words if name.lower() == match[0])}'?"
    return f"; expected one of: {', '.join(words)}" if words else ""


def problems_of(
    errors: Sequence[ErrorDetails], block: type[BaseModel], source: Source, top: Path = ()
) -> list[Problem]:
    """The problems of one failed validation of `block`, whose data stands at `top` in the source."""
    faults = [_locate(error, source, top) for error in errors]
    deepest = {fault.union for fault in faults if fault.union is not None and len(fault.path) > len(fault.union)}
    faults = [fault for fault in faults if fault.union not in deepest or len(fault.path) > len(fault.union or ())]
    by_path: dict[Path, list[_Fault]] = {}
    for fault in faults:
        by_path.setdefault(fault.path, []).append(fault)
    return [_problem(path, group, block, source, top) for path, group in by_path.items()]


def booleans_as_numbers(data: Any, block: type[BaseModel], source: Source, top: Path = ()) -> list[Problem]:
    """Where `true` or `false` stands for a number: Python makes 1 and 0 of them, a recipe must not."""
    problems = []
    for key, value in data.items() if isinstance(data, dict) else ():
        field = next((field for name, field in block.model_fields.items() if key in (name, field.alias)), None)
        if field is None:
            continue
        types_inside = unwrap(field.annotation)
        for path, item in _with_items(value, (*top, key)):
            if isinstance(item, bool) and bool not in types_inside and {int, float} & set(types_inside):
                problems.append(Problem(source.place(path), f"{dotted(path)}: found {show(item)}, expected a number"))
            for kind in types_inside:
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    problems += booleans_as_numbers(item, kind, source, path)
    return problems


def _with_items(value: Any, path: Path) -> list[tuple[Path, Any]]:
    """A value, or each item of a list, with its path."""
    return [((*path, index), item) for index, item in enumerate(value)] if isinstance(value, list) else [(path, value)]


def _locate(error: ErrorDetails, source: Source, top: Path) -> _Fault:
    """Walk pydantic's location down the data; parts that are not in it name a branch of a union and are skipped."""
    data = _at(source.data, top)
    path, union = top, None
    for part in error["loc"]:
        if part in (data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()):
            data, path = data[part], (*path, part)
        elif error["type"] != "missing" or part != error["loc"][-1]:
            union = union if union is not None else path
    return _Fault(path, union, error)


def _at(data: Any, path: Path) -> Any:
    """The value at `path`; a stage written as a bare word is an empty block."""
    for part in path:
        if isinstance(data, str | None):
            return {}
        data = data[part]
    return {} if data is None and path else data


def _problem(path: Path, group: Sequence[_Fault], block: type[BaseModel], source: Source, top: Path) -> Problem:
    first = group[0].error
    missing = [fault.error for fault in group if fault.error["type"] == "missing"]
    if first["type"] == "extra_forbidden":
        known = _keys(_class_at(block, first["loc"][:-1]))
        text = f"{UNKNOWN_KEY}'{first['loc'][-1]}'{_inside(path)}{nearest(str(first['loc'][-1]), known)}"
        return Problem(source.place(path, key=True), text)
    if missing:
        texts = [_missing(error, block) for error in missing]
        return Problem(source.place(path, key=True), f"{dotted(path, 'the recipe')}: {'; '.join(texts)}")
    if first["type"] in {"value_error", "assertion_error"}:
        said = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        return Problem(source.place(path, key=isinstance(_at(source.data, path), dict)), f"{dotted(path)}: {said}")
    found = first["input"]
    expected = list(dict.fromkeys(_expected(fault.error) for fault in group))
    text = f"{dotted(path)}: found {show(found)}, expected {' or '.join(expected)}"
    choices = [choice for fault in group for choice in _choices(fault.error, block)]
    if isinstance(found, str) and choices and (hint := nearest(found, choices)).startswith("; did"):
        text += hint
    if first["type"] == "string_type" and isinstance(found, int | float):
        text += " (put it in quotes)"
    return Problem(source.place(path), text)


def _missing(error: ErrorDetails, block: type[BaseModel]) -> str:
    name = error["loc"][-1]
    owner = _class_at(block, error["loc"][:-1])
    field = next((f for n, f in owner.model_fields.items() if name in (n, f.alias)), None) if owner else None
    about = f" ({field.description.rstrip('.')})" if field is not None and field.description else ""
    return f"'{name}' is missing{about}"


def _expected(error: ErrorDetails) -> str:
    form = EXPECTED.get(error["type"])
    return form.format(**error.get("ctx", {})) if form else error["msg"]


def _choices(error: ErrorDetails, block: type[BaseModel]) -> list[str]:
    """The words a literal allows; pydantic gives them as a phrase: 'a', 'b' or 'c'."""
    if error["type"] not in {"literal_error", "enum"}:
        return []
    return str(error["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")


def _class_at(block: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """The settings class that pydantic was filling at `loc`."""
    now: list[Any] = [block]
    for part in loc:
        classes = [kind for kind in now if isinstance(kind, type) and issubclass(kind, BaseModel)]
        named = [kind for kind in classes if kind.__name__ == part]
        fields = [
            field.annotation
            for kind in classes
            for name, field in kind.model_fields.items()
            if part in (name, field.alias)
        ]
        if named:
            now = named
        elif fields:
            now = [inner for annotation in fields for inner in unwrap(annotation)]
    return next((kind for kind in now if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def unwrap(annotation: Any) -> list[Any]:
    """The plain types inside a field's annotation: members of unions, items of lists, values of mappings."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return unwrap(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in unwrap(member)]
    if origin in (list, tuple, set, frozenset):
        return [inner for member in get_args(annotation) if member is not Ellipsis for inner in unwrap(member)]
    if origin is dict:
        return unwrap(get_args(annotation)[1])
    return [annotation]


def _keys(block: type[BaseModel] | None) -> list[str]:
    return [field.alias or name for name, field in block.model_fields.items()] if block else []


def _inside(path: Path) -> str:
    where = dotted(path[:-1])
    return f" in {where}" if where else ""


def dotted(path: Path, nothing: str = "") -> str:
    """`stages.2.train.tokens` as a person says it: `train.tokens`."""
    parts = path[2:] if path[:1] == ("stages",) and len(path) > 2 else path
    return ".".join(map(str, parts)) or nothing


def show(value: Any) -> str:
    """A found value as it looks in YAML, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a block ({', '.join(map(str, value))})" if value else "an empty block"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]
