"""`llmtune schema`: the JSON schema of recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def schema(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file instead.")] = None,
) -> None:
    """Print the JSON schema of recipes (draft 2020-12), which lets an editor check and complete them.

    With the YAML extension of an editor, write it to recipe.schema.json and begin a recipe with the line
    `# yaml-language-server: $schema=recipe.schema.json`.
    """
    from llmtune.files import write_text
    from llmtune.recipe import json_schema

    text = json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
