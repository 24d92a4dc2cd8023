"""A recipe as YAML with every default written out."""

from __future__ import annotations

import io
import json

from ruamel.yaml import YAML

from llmtune.recipe.recipe import Recipe


def dump_resolved(recipe: Recipe) -> str:
    """YAML that loads again to an equal recipe: every field, every default, paths absolute, stage ids filled."""
    values = {
        "name": recipe.name,
        **recipe.model_dump(mode="json", by_alias=True, exclude={"name", "stages"}),
        "stages": [{stage.kind: stage.model_dump(mode="json", by_alias=True)} for stage in recipe.stages],
    }
    order = [field.alias or name for name, field in Recipe.model_fields.items()]
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 4096
    buffer = io.StringIO()
    # Through JSON, so that no two fields share an object and the dump has no anchors.
    yaml.dump(json.loads(json.dumps({key: values[key] for key in order})), buffer)
    return buffer.getvalue()
