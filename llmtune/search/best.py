"""The best trial as a plain recipe: the user's own text with the values in place, comments and all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from llmtune.errors import RecipeError
from llmtune.recipe import Recipe, dump_resolved
from llmtune.recipe.load import Written
from llmtune.recipe.overrides import apply_overrides, kind_and_id
from llmtune.recipe.source import Source
from llmtune.recipe.space import with_values


def best_text(written: Written, values: Mapping[str, Any], head: str) -> str:
    """The recipe as it was written, without `search:`, with overrides and `values` in place and its paths absolute.
    head: a comment for its first line.

    Where that is not the recipe of the trial, which it must be (a value stands in a block that an alias repeats), the
    trial's own recipe is written out with every default."""
    recipe = written.with_values(values)
    text = f"{head}\n{_edited(written, values, recipe)}"
    if _is(recipe, text):
        return text
    return f"{head}\n{dump_resolved(recipe)}"


def _is(recipe: Recipe, text: str) -> bool:
    """Whether a text is that recipe, wherever it stands."""
    try:
        return Written(Path("/best.yaml"), text.encode()).recipe() == recipe
    except RecipeError:
        return False


def _edited(written: Written, values: Mapping[str, Any], recipe: Recipe) -> str:
    yaml = YAML()  # round trip: comments, order and the way numbers are written stay
    yaml.width = 4096
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    source = Source(str(written.file), data=yaml.load(written.text))
    apply_overrides(source, written.overrides)
    data = with_values(source, values).data
    _make_absolute(data, recipe)
    buffer = io.StringIO()
    yaml.dump(data, buffer)
    return buffer.getvalue()


def _make_absolute(data: Any, recipe: Recipe) -> None:
    """Write every path as the recipe has it: the text is going to stand in another folder."""
    values = recipe.model_dump(by_alias=True, exclude={"stages", "model"})
    values["model"] = recipe.model.name if isinstance(data["model"], str) else recipe.model.model_dump(by_alias=True)
    _take_over(data, values)
    for written, stage in zip(data["stages"], recipe.stages, strict=True):
        kind, _ = kind_and_id(written)
        if isinstance(written, dict) and isinstance(written[kind], dict):
            _take_over(written[kind], stage.model_dump(by_alias=True))


def _take_over(written: Any, values: Any) -> None:
    """Where a text became a path or another text when it was read, write that; texts become plain ones."""
    if isinstance(written, dict) != isinstance(values, dict):  # it became something else; `best_text` looks at the end
        return
    for key in written if isinstance(written, dict) else range(min(len(written), len(values))):
        if isinstance(values, dict) and key not in values:
            continue
        old, new = written[key], values[key]
        if isinstance(old, str) and isinstance(new, str | Path) and (type(old) is not str or old != str(new)):
            written[key] = str(new)
        elif isinstance(old, dict | list) and isinstance(new, dict | list):
            _take_over(old, new)
