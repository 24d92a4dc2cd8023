"""The stages of a recipe, one file a kind, and where they are found."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from llmtune.stages.stage import Stage

# kind → "module:class"; the order is the order of the road, and of the recipe reference.
BUILT_IN = {
    "corpus": "llmtune.stages.corpus:CorpusStage",
    "back_translate": "llmtune.stages.back_translate:BackTranslateStage",
    "instruct": "llmtune.stages.instruct:InstructStage",
    "trim_vocabulary": "llmtune.stages.trim_vocabulary:TrimVocabularyStage",
    "train": "llmtune.stages.train:TrainStage",
    "moe": "llmtune.stages.moe:MoeStage",
    "prune": "llmtune.stages.prune:PruneStage",
    "distill": "llmtune.stages.distill:DistillStage",
    "quantize": "llmtune.stages.quantize:QuantizeStage",
    "export": "llmtune.stages.export:ExportStage",
}
# Added by the run itself, never written in a recipe's `stages`.
IMPLICIT = {
    "model": "llmtune.stages.model:ModelStage",
    "evaluate": "llmtune.stages.evaluate:EvaluateStage",
    "answers": "llmtune.stages.answers:AnswersStage",
}


@cache
def stage_kinds() -> dict[str, type[Stage]]:
    """Every stage a recipe may name: ours, then those of other packages (entry-point group `llmtune.stages`)."""
    kinds = {kind: _load(target) for kind, target in BUILT_IN.items()}
    for entry in entry_points(group="llmtune.stages"):
        kinds.setdefault(entry.name, entry.load())
    return kinds


@cache
def stage_class(kind: str) -> type[Stage]:
    """The class of a stage kind, implicit ones included. Raises KeyError for an unknown kind."""
    return _load(IMPLICIT[kind]) if kind in IMPLICIT else stage_kinds()[kind]


def _load(target: str) -> type[Stage]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]
