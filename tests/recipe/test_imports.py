"""Reading a recipe is cheap: it needs none of the heavy packages."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "pyarrow", "numpy", "peft", "accelerate", "tokenizers", "safetensors", "datasets")


def test_recipe_stages_and_commands_import_nothing_heavy() -> None:
    program = f"""
import sys, llmtune.recipe, llmtune.recipe.reference, llmtune.recipe.shipped, llmtune.stages
from llmtune.cli.app import COMMANDS, load_command
llmtune.stages.stage_kinds()
for kind in llmtune.stages.IMPLICIT:
    llmtune.stages.stage_class(kind)
for name in COMMANDS:
    load_command(name)
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
