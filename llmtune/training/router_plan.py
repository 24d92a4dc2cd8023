"""Which models have routers that are trained with losses of their own. Imports no torch: plans ask the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtune.models.moe.target import experts_of
from llmtune.training.settings import TrainSettings

# A softmax over the logits of one linear layer chooses their experts, which is what the losses speak of.
ROUTED_BY_SOFTMAX = frozenset({"mixtral", "olmoe", "qwen2_moe", "qwen3_moe"})


def trains_routers(settings: TrainSettings, config: Mapping[str, Any]) -> bool:
    """Whether this training has losses of the routers. config: a parsed `config.json`."""
    return settings.adapter is None and config.get("model_type") in ROUTED_BY_SOFTMAX and experts_of(config) is not None


def router_problem(settings: TrainSettings, config: Mapping[str, Any]) -> str | None:
    """Why the setting `router` makes no sense for this model, as a sentence; None where it does or is not given."""
    if settings.router is None or trains_routers(settings, config):
        return None
    family = config.get("model_type")
    if experts_of(config) is None:
        return f"`router` is for mixtures of experts, and this {family} model is dense; leave it out"
    if settings.adapter is not None:
        return "`router` has nothing to act on: an adapter leaves routers and experts as they are; leave it out"
    return f"`router`: the routers of {family} are of another kind than those of {', '.join(sorted(ROUTED_BY_SOFTMAX))}"
