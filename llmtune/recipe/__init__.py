"""The recipe language: one YAML file, a base model and an ordered list of stages. Imports no torch."""

from llmtune.recipe.dump import dump_resolved
from llmtune.recipe.graph import Node, resolve_inputs
from llmtune.recipe.load import load_recipe
from llmtune.recipe.recipe import Recipe, ReportSettings
from llmtune.recipe.schema import json_schema

__all__ = ["Node", "Recipe", "ReportSettings", "dump_resolved", "json_schema", "load_recipe", "resolve_inputs"]
