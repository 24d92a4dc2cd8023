"""The JSON schema of recipes (draft 2020-12), from the same classes that validate them."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from llmtune import stages as stage_registry
from llmtune.recipe.recipe import Recipe
from llmtune.stages.stage import Stage

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """A schema an editor can check and complete recipes with: stages as one-key blocks, descriptions included."""
    kinds = stage_registry.stage_kinds()
    classes: list[type[Recipe | Stage]] = [Recipe, *kinds.values()]
    refs, definitions = models_json_schema([(cls, "validation") for cls in classes], by_alias=True)
    blocks = definitions["$defs"]
    recipe = blocks.pop(_name(refs[Recipe, "validation"]))
    blocks.pop("Stage", None)  # the abstract base, named only by the field that is replaced here
    recipe["properties"]["stages"]["items"] = {
        "oneOf": [_one_key(kind, cls, refs[cls, "validation"]) for kind, cls in kinds.items()]
    }
    return {
        "$schema": DIALECT,
        **_with_underscores(recipe),
        "title": "llmtune recipe",
        "$defs": _with_underscores(blocks),
    }


def _one_key(kind: str, cls: type[Stage], reference: dict[str, Any]) -> dict[str, Any]:
    """`- kind: {settings}`; bare `- kind` and `- kind:` where no setting is required."""
    about = summary(cls)
    bare = not any(field.is_required() for field in cls.model_fields.values())
    settings = {"anyOf": [reference, {"type": "null"}]} if bare else reference
    block = {
        "type": "object",
        "title": kind,
        "description": about,
        "properties": {kind: {**settings, "description": about}},
        "required": [kind],
        "additionalProperties": False,
    }
    return {"anyOf": [block, {"const": kind, "description": about}], "description": about} if bare else block


def _with_underscores(schema: Any) -> Any:
    """The schema with `140_000` allowed where an integer is: to an editor's YAML 1.2 that is a string."""
    if isinstance(schema, list):
        return [_with_underscores(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _with_underscores(part) for key, part in schema.items()}
    if found.get("type") == "integer":
        found |= {"type": ["integer", "string"], "pattern": "^[0-9]+(_[0-9]+)+$"}
    return found


def summary(cls: type) -> str:
    """The first paragraph of a class's docstring, on one line."""
    return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
