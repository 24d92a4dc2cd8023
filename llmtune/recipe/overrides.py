"""`key.path=value` on the command line: any field of a recipe, by stage id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtune.recipe.faults import dotted, nearest
from llmtune.recipe.recipe import Recipe, stage_ids
from llmtune.recipe.source import Path, Place, Problem, Source, parse
from llmtune.settings import Typed
from llmtune.words import printable


def apply_overrides(source: Source, overrides: Sequence[str]) -> None:
    """Change `source.data` in place, in the order given; the places of what changed become the command line.

    Values are YAML; one that is not (`>= 0.9 of train`) is taken as text. A path is relative to the working folder, as
    on any command line. Faults go to `source.problems`; a key that no block has is found when the recipe is validated,
    like any other."""
    for text in overrides:
        shown = printable(text)
        place = Place(f"command line '{shown}'")
        problem = _apply(source, text, place) if shown == text else "is not UTF-8"
        if problem:
            source.problems.append(Problem(place, problem))


def _apply(source: Source, text: str, place: Place) -> str | None:
    """Apply one override; returns what is wrong with it, if anything."""
    dotted, equals, written = text.partition("=")
    if not equals or not dotted.strip():
        return "expected key.path=value, for example seed=3 or train.tokens=100_000"
    parsed = parse(written.encode(), str(place))
    value = written.strip() if parsed.problems else parsed.data
    return set_field(source, dotted.strip(), _typed(value), place)


def set_field(source: Source, key: str, value: Any, place: Place) -> str | None:
    """Give the field that `key` names (`train.lr`) a value, which then stands at `place`; returns what is wrong, if
    anything."""
    path, problem = _resolve(source.data, key.split("."))
    return problem or _set(source, path, value, place)


def _typed(value: Any) -> Any:
    """`value` with its texts marked as typed on the command line."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return Typed(value) if isinstance(value, str) else value


def _resolve(data: dict[str, Any], parts: list[str]) -> tuple[Path, str | None]:
    """Where `parts` lead: a field of the recipe, or the block of the stage with that id."""
    first, rest = parts[0], parts[1:]
    if first in Recipe.model_fields:
        return (first, *(int(part) if part.isdigit() else part for part in rest)), None
    stages = data.get("stages")
    named = [(index, *kind_and_id(item)) for index, item in enumerate(stages if isinstance(stages, list) else [])]
    blocks = [(index, kind, written) for index, kind, written in named if kind is not None]
    ids = stage_ids([(kind, written) for _, kind, written in blocks])
    if first not in ids:
        return (), f"no stage or setting '{first}'{nearest(first, [*ids, *Recipe.model_fields])}"
    if not rest:
        return (), f"'{first}' is a stage; name one of its settings: {first}.<setting>=<value>"
    index, kind, _ = blocks[ids.index(first)]
    return ("stages", index, kind, *(int(part) if part.isdigit() else part for part in rest)), None


def kind_and_id(item: Any) -> tuple[str | None, str | None]:
    """Kind and written id of one entry of `stages` (`- train` or `- train: {…}`), None where there is none."""
    if isinstance(item, str):
        return item, None
    if not isinstance(item, dict) or len(item) != 1:
        return None, None
    kind, body = next(iter(item.items()))
    written = body.get("id") if isinstance(body, dict) else None
    return kind, written if isinstance(written, str) else None


def _set(source: Source, path: Path, value: Any, place: Place) -> str | None:
    """Put `value` at `path`, making the blocks on the way; returns what is wrong, if anything."""
    block: Any = source.data
    for depth, part in enumerate(path):
        if problem := _no_entry(block, path[:depth], part):
            return problem
        key: Any = part if isinstance(block, list) else str(part)
        here = path[: depth + 1]
        if isinstance(block, dict) and key not in block:
            source.keys[here] = place
        if depth == len(path) - 1:
            block[key] = value
            _move(source, here, place)
        else:
            block[key] = _as_block(block[key] if isinstance(block, list) else block.get(key), path[:depth], key)
            block = block[key]
    return None


def _no_entry(block: Any, path: Path, part: str | int) -> str | None:
    """Why there can be no `part` in the block at `path`; None when there can."""
    if isinstance(block, dict):
        return None
    if not isinstance(block, list):
        return f"'{dotted(path)}' is {block!r}, which has no settings inside"
    if not isinstance(part, int):
        return f"'{dotted(path)}' is a list; expected a position from 0 to {len(block) - 1}, found '{part}'"
    if part >= len(block):
        return f"'{dotted(path)}' has {len(block)} items; expected a position from 0 to {len(block) - 1}"
    return None


def _as_block(value: Any, around: Path, part: str | int) -> Any:
    """What is written in short, written out: nothing, `- train`, and `model: name`."""
    if value is None:
        return {}
    if around == ("stages",) and isinstance(value, str):
        return {value: {}}
    if (around, part) == ((), "model") and isinstance(value, str):
        return {"name": value}
    return value


def _move(source: Source, path: Path, place: Place) -> None:
    """All that stands at `path` or below now stands on the command line."""
    for places in (source.keys, source.values):
        for known in [known for known in places if known[: len(path)] == path]:
            del places[known]
    source.keys[path] = source.values[path] = place
