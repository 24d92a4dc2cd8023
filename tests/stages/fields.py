"""The settings of a stage by their paths, for the tests that walk all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

# Settings that decide no artifact's contents: what `Stage.not_identity` says of every stage.
WIRING = {
    "id": "names the artifact in the run; tests/recipe/test_load.py",
    "from_": "chooses the inputs before the stage runs; tests/recipe/test_graph.py",
    "gates": "looks at the scores after the stage ran; tests/recipe/test_gates.py",
}


def paths_of(kind: type[BaseModel]) -> set[str]:
    """`split.valid`, `sources.columns.text`, …: every setting below a block, through lists and unions of blocks."""
    return set(_paths(kind, ""))


def _paths(kind: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        blocks = list(_blocks(field.annotation))
        if not blocks:
            yield prefix + name
        for block in blocks:
            yield from _paths(block, f"{prefix}{name}.")


def _blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _blocks(part)


def with_setting(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `base` with one setting changed; in a list of blocks, that of the first one."""
    name, _, rest = path.partition(".")
    if not rest:
        return base | {name: value}
    inner = base.get(name, {})
    if isinstance(inner, list):
        return base | {name: [with_setting(inner[0], rest, value), *inner[1:]]}
    return base | {name: with_setting(inner, rest, value)}
