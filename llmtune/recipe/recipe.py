"""What a recipe is: a base model and an ordered list of stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, SerializeAsAny, field_validator

from llmtune.evaluate.gates import PREVIOUS
from llmtune.evaluate.settings import EvaluateSettings
from llmtune.models.reference import NamedModel
from llmtune.recipe.search import SearchSettings
from llmtune.settings import Settings
from llmtune.stages.stage import Stage

BASE = "base"  # id of the base model
NAME_CHARACTERS, NAME_LENGTH = "A-Za-z0-9._-", 100  # what a recipe's name may be made of, and the most of it


class ReportSettings(Settings):
    """What the report shows."""

    samples: bool = Field(True, description="Show text samples of the corpus and of the model's answers in the report.")
    prompts: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Prompts that the base model and the last model answer, side by side in the report; empty: none.",
    )


class Recipe(Settings):
    """A base model, the stages that turn documents into a small model, and how to judge what they make."""

    name: str = Field(
        pattern=rf"^[A-Za-z0-9][{NAME_CHARACTERS}]*$",
        max_length=NAME_LENGTH,
        description="Name of the recipe and of its run folder: letters, digits, '.', '_' and '-'.",
    )
    model: NamedModel = Field(
        description="The base model: a short name, a folder, a hub id or a .gguf file; or a block with `name`."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="The one source of randomness: split, order, initial adapters.")
    stages: list[SerializeAsAny[Stage]] = Field(min_length=1, description="The steps, in order, one key each.")
    evaluate: EvaluateSettings | None = Field(
        None, description="How to score every model the stages make; `{}` takes all defaults, null makes no scores."
    )
    gates: dict[str, str] = Field(
        default_factory=dict,
        description="Conditions on the last model's scores, for example {bytes: '<= 80 MB'}; the run fails otherwise.",
    )
    search: SearchSettings | None = Field(
        None, description="Try many values of some fields: `llmtune run` then makes a study, and a recipe of the best."
    )
    report: ReportSettings = Field(
        default_factory=lambda: ReportSettings(), description="Which texts the report shows."
    )

    @field_validator("stages")
    @classmethod
    def _name_stages(cls, stages: list[Stage]) -> list[Stage]:
        ids = stage_ids([(stage.kind, stage.id) for stage in stages])
        for index, problem in id_problems(ids):
            raise ValueError(f"stage {index + 1}: {problem}")
        return [
            stage if stage.id else stage.model_copy(update={"id": name})
            for stage, name in zip(stages, ids, strict=True)
        ]


def stage_ids(stages: Sequence[tuple[str, str | None]]) -> list[str]:
    """The id of each stage from (kind, id written or None): unnamed ones take their kind, numbered from the second."""
    unnamed: dict[str, int] = {}
    ids = []
    for kind, written in stages:
        if written is None:
            unnamed[kind] = unnamed.get(kind, 0) + 1
            written = kind if unnamed[kind] == 1 else f"{kind}-{unnamed[kind]}"
        ids.append(written)
    return ids


def id_problems(ids: Sequence[str]) -> list[tuple[int, str]]:
    """(position, what is wrong) of every stage whose id is taken or has a meaning of its own in a recipe."""
    problems = []
    for index, name in enumerate(ids):
        if name in ids[:index]:
            problems.append((index, f"id '{name}' is taken by stage {list(ids).index(name) + 1}; give one another id"))
        elif name in (BASE, PREVIOUS) or name in Recipe.model_fields:
            problems.append((index, f"id '{name}' has a meaning of its own in a recipe; choose another"))
    return problems
