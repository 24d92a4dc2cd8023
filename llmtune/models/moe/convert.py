"""Convert a dense checkpoint into a mixture of experts that transformers loads by itself.

    convert(checkpoint, output, Layout("split", experts=6, active=2, shared=2), rows=rows, work=work, seed=7)

A split looks at text layer by layer and keeps what it decided in the folder `work`: after a kill it goes on there, to
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from llmtune.errors import LlmtuneError, NotFinite
from llmtune.files import write_bytes
from llmtune.machine import this_machine
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.moe.compensate import compensated
from llmtune.models.moe.estimate import COLLECTED
from llmtune.models.moe.experts import divided, upcycled
from llmtune.models.moe.grouping import Grouping, group, group_by_chance
from llmtune.models.moe.target import Layout, active_parameters, conversion_problem, moe_config
from llmtune.models.save import save_checkpoint
from llmtune.models.shape import read_shape
from llmtune.monitor import Monitor
from llmtune.seeds import seed_of


@dataclass(frozen=True)
class Converted:
    """What came of it. metrics: JSON values; of a split, before any training, for each layer: the share of the text's
    choices that fell on each routed expert (load), and the part of its output that is missing (error)."""

    metrics: dict[str, Any]
    load: list[list[float]]
    error: list[float]


@dataclass(frozen=True)
class _Split:
    """One layer, decided. down_HI and error: see `compensated`."""

    grouping: Grouping
    down_HI: Tensor
    error: float


def convert(
    checkpoint: Path,
    output: Path,
    layout: Layout,
    *,
    seed: int,
    work: Path,
    rows: Sequence[Tensor] = (),
    grouping: Literal["activity", "random"] = "activity",
    trust_remote_code: bool = False,
    monitor: Monitor | None = None,
) -> Converted:
    """Write the converted checkpoint into the folder `output`.

    seed:     of an upcycled router and of random groups
    rows:     for a split, token ids (1, T) of the text whose activations decide
    grouping: of a split: by activity on the text, or by chance (to compare with)
    Raises LlmtuneError for a model that cannot be converted so, NotFinite for one whose activations are not numbers,
    Stopped at a safe point.
    """
    monitor = monitor or Monitor()
    if layout.method == "split" and not rows:
        raise ValueError("a split needs rows of text")
    shape = read_shape(checkpoint)
    if problem := conversion_problem(shape, layout):
        raise LlmtuneError(problem, where=str(checkpoint), fix="see docs/moe.md for what can be converted")
    model: Any = load_model(checkpoint, trust_remote_code=trust_remote_code)
    stored = model.dtype
    if rows and not this_machine().computes_in_bf16:
        model = model.float()  # a CPU without bf16 arithmetic is far slower in it
    shape = replace(shape, config=model.config.to_dict())
    target = moe_config(shape, layout)
    load: list[list[float]] = []
    error: list[float] = []
    weights = {name: value for name, value in model.state_dict().items() if ".mlp." not in name}
    if layout.method == "split":
        for index, made in enumerate(_splits(model, layout, rows, grouping, seed, work, monitor)):
            load.append(made.grouping.load_E.tolist())
            error.append(made.error)
            weights |= _named(index, divided(model.model.layers[index].mlp.state_dict(), made.grouping, made.down_HI))
    else:
        spread = float(model.config.initializer_range)
        for index, layer in enumerate(model.model.layers):
            of_router = seed_of(seed, "router", index)
            dense = layer.mlp.state_dict()
            made_of = upcycled(dense, layout.experts, layout.active, target["model_type"], spread, of_router)
            weights |= _named(index, made_of)
    monitor.safe_point()
    mixture = _model_of(target, weights, model)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    dtype = str(stored).removeprefix("torch.")
    save_checkpoint(mixture, tokenizer, output, dtype=dtype, trust_remote_code=trust_remote_code)
    made_shape = read_shape(output)
    missing = {"output_error": sum(error) / len(error)} if error else {}
    return Converted(
        {
            "method": layout.method,
            "architecture": target["model_type"],
            "experts": layout.experts,
            "active_experts": layout.active,
            "expert_width": layout.width(shape.intermediate_size),
            "shared_width": layout.shared_width(shape.intermediate_size, target["model_type"]),
            "parameters": made_shape.parameters,
            "active_parameters": active_parameters(made_shape),
            **missing,
        },
        load,
        error,
    )


def _named(layer: int, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.layers.{layer}.mlp.{name}": value for name, value in weights.items()}


def _model_of(target: Mapping[str, Any], weights: Mapping[str, Tensor], dense: Any) -> Any:
    """A transformers model of the target's class around these weights, as it is saved."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = dict(target)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict({name: value.cpu() for name, value in weights.items()}, assign=True)
    model.tie_weights()
    model.generation_config = dense.generation_config
    return model


def _splits(
    model: Any,
    layout: Layout,
    rows: Sequence[Tensor],
    grouping: str,
    seed: int,
    work: Path,
    monitor: Monitor,
) -> Iterator[_Split]:
    """One for each layer, from `work` where it is done already."""
    layers = model.model.layers
    files = [work / f"layer-{index:03d}.safetensors" for index in range(len(layers))]
    tokens = sum(row.numel() for row in rows)
    at_once = max(1, COLLECTED // (tokens * model.config.hidden_size * 4))
    with monitor.bar("dividing the feed-forward parts", len(layers), "layers") as bar:
        inputs: dict[int, Tensor] = {}
        for index, layer in enumerate(layers):
            monitor.safe_point()
            if not files[index].exists():
                if index not in inputs:
                    inputs = _inputs(model, rows, range(index, min(index + at_once, len(layers))), monitor)
                inputs_NH = inputs.pop(index)
                hidden_NI, down_HI = _activations(layer.mlp, inputs_NH)
                # The length of what a neuron adds to the output.
                activity_NI = hidden_NI.abs().mul_(down_HI.norm(dim=0))
                if not bool(activity_NI.isfinite().all()):
                    raise NotFinite(
                        "its activations on the calibration text are not finite",
                        where=f"model.layers.{index}.mlp",
                        fix="start from a checkpoint that works: `llmtune evaluate` tells",
                    )
                if grouping == "random":
                    chance = seed_of(seed, "groups", index)
                    made = group_by_chance(inputs_NH, activity_NI, layout.experts, layout.active, layout.shared, chance)
                else:
                    made = group(inputs_NH, activity_NI, layout.experts, layout.active, layout.shared)
                del activity_NI
                split = _Split(made, *compensated(inputs_NH, hidden_NI, down_HI, made))
                kept = {name: value.contiguous() for name, value in _as_tensors(split).items()}
                write_bytes(files[index], save(kept))
            bar.advance()
            yield _from_tensors(load_file(files[index]), layout.active)


@torch.no_grad()
def _inputs(model: Any, rows: Sequence[Tensor], layers: range, monitor: Monitor) -> dict[int, Tensor]:
    """What the feed-forward parts of some layers get on the text: (N, H) in fp32 on the CPU, by layer."""
    found: dict[int, list[Tensor]] = {index: [] for index in layers}

    def keep(index: int) -> Any:
        return lambda _, inputs: found[index].append(inputs[0].reshape(-1, inputs[0].shape[-1]).float().cpu())

    hooks = [model.model.layers[index].mlp.register_forward_pre_hook(keep(index)) for index in layers]
    device = _device()
    model.to(device)
    try:
        for row in rows:
            monitor.safe_point()
            model.model(row.to(device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {index: torch.cat(parts) for index, parts in found.items()}


def _device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


@torch.no_grad()
def _activations(mlp: Any, inputs_NH: Tensor) -> tuple[Tensor, Tensor]:
    """Of the neurons (N, I), and the weights that take them (H, I), in fp32 on the CPU."""
    gate_IH, up_IH, down_HI = (
        layer.weight.detach().float().cpu() for layer in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    )
    return mlp.act_fn(F.linear(inputs_NH, gate_IH)).mul_(F.linear(inputs_NH, up_IH)), down_HI


def _as_tensors(split: _Split) -> dict[str, Tensor]:
    made = split.grouping
    return {
        "shared": made.shared_S,
        "experts": made.experts_EW,
        "router": made.router_EH,
        "load": made.load_E,
        "down": split.down_HI,
        "figures": torch.tensor([made.weight, split.error], dtype=torch.float64),
    }


def _from_tensors(kept: Mapping[str, Tensor], active: int) -> _Split:
    weight, error = kept["figures"].tolist()
    made = Grouping(kept["shared"], kept["experts"], kept["router"], weight, kept["load"], active)
    return _Split(made, kept["down"], error)
