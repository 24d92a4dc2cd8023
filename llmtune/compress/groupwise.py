"""W8, W4 and W3 by group through llmcompressor: plain rounding, and GPTQ with calibration text.

GPTQ: Frantar et al., https://arxiv.org/abs/2210.17323. The result is a checkpoint in compressed-tensors' format.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.compress.grid import Grid, conv1d_problem, ignored, scheme
from llmtune.errors import LlmtuneError, NotFinite
from llmtune.extras import need
from llmtune.models.families import CONV1D_FAMILIES
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from torch import Tensor, nn

# Dampening of the Hessian's diagonal, as a fraction of its mean, and columns rounded before the rest is updated.
DAMPENING = 0.01
BLOCK_COLUMNS = 128
# Least squared error (norm 2) over ranges of 100 % to 60 % of a group's largest weight in steps of 2.5 %.
SEARCH = {"norm": 2.0, "maxshrink": 0.4, "grid": 40, "patience": 8}
# Above this share of a model's parameters, weights that are neither linear layers nor tables must not stay unrounded
# unnoticed (fused experts, Conv1D); below it they are routers and the like.
KEPT_SHARE = 0.01


def targets(model: nn.Module, ignore: Sequence[str]) -> dict[str, nn.Module]:
    """The linear layers to round, by module name.

    Raises LlmtuneError when there are none, when a tied head would be rounded, and when a share of the weights that
    matters lies in modules that are no `nn.Linear`.
    """
    import torch

    table = model.get_input_embeddings().weight  # type: ignore[operator]
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not ignored(name, ignore)
    }
    for name, module in found.items():
        if module.weight is table:
            raise LlmtuneError(
                "the head shares its table with the embeddings, which stay in bf16",
                where=name,
                fix=f"add {name} to `ignore`",
            )
    refuse_leftovers(model, found, ignore)
    return found


def refuse_leftovers(model: nn.Module, rounded: Collection[str], ignore: Sequence[str]) -> None:
    """Raise LlmtuneError when no module is to be rounded, or when more than KEPT_SHARE of a model's weights would be
    left in bf16 without having been named in `ignore` (embedding tables and a tied head apart)."""
    import torch

    if not rounded:
        raise LlmtuneError("no linear layer is left to round", where="ignore", fix="shorten `ignore`")
    table = model.get_input_embeddings().weight  # type: ignore[operator]
    left = {
        f"{name}.{part}": parameter.numel()
        for name, module in model.named_modules()
        if name not in rounded and not ignored(name, ignore) and not isinstance(module, torch.nn.Embedding)
        for part, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 2 and parameter is not table
    }
    share = sum(left.values()) / sum(parameter.numel() for parameter in model.parameters())
    if share > KEPT_SHARE:
        worst = max(left, key=left.__getitem__)
        raise LlmtuneError(
            f"{100 * share:.0f} % of the parameters ({len(left)} tensors) lie in modules that this method cannot round "
            "(fused experts, Conv1D, or other modules that are no nn.Linear)",
            where=worst,
            fix="to keep them in bf16, name their modules in `ignore`; export to GGUF rounds such models too",
        )


def refuse_experts(model: nn.Module) -> None:
    """Raise LlmtuneError for a mixture of experts. llmcompressor would take its fused experts apart and save them under
    names that transformers does not read for every family (Mixtral: they would come back as random numbers)."""
    from llmcompressor.modeling.moe.linearize import get_non_linearized_moes

    if get_non_linearized_moes(model):
        raise LlmtuneError(
            "round and gptq cannot store a mixture of experts (fused experts) so that transformers reads it back",
            where=str(model.config.model_type),
            fix="export the checkpoint to GGUF, which rounds experts too",
        )


def check_family(model_type: str) -> None:
    """Raise LlmtuneError for the families whose layers llmcompressor cannot save."""
    if model_type in CONV1D_FAMILIES:
        raise LlmtuneError(conv1d_problem(model_type), fix="use method nf4 or int8, or export this model to GGUF")


def round_to_codes(
    model: Any,
    grid: Grid,
    ignore: Sequence[str],
    *,
    calibration: Sequence[Tensor] | None = None,
    scale_search: bool = True,
    work: Path | None = None,
    trust_remote_code: bool = False,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """Round a model's linear layers in place, keeping codes, scales and zero points beside each weight.

    calibration: rows (1, T) of token ids for GPTQ; None rounds each weight to the nearest code
    scale_search: choose each group's scale for the least squared error (weighted by E[x²] of the inputs with
        calibration) instead of by its largest weight
    work: folder in which the finished layers of GPTQ are kept, so that a killed job goes on after them
    Returns {"layers": rounded linears, "rounded_plainly": those where GPTQ fell back to rounding}.
    """
    need("llmcompressor", "quantization by round or gptq")
    monitor = monitor or Monitor()
    refuse_experts(model)
    modules = targets(model, ignore)
    left_alone = sorted(_all_linears(model) - set(modules))
    with quiet():
        from llmcompressor import oneshot

        import llmtune.compress.block_update  # noqa: F401 - registers itself
        from llmtune.compress.modifiers import ResumableGPTQ, rounding_modifier

        trusted = {"trust_remote_code_model": trust_remote_code}
        asked = _scheme(grid, scale_search, calibration is not None)
        with monitor.bar("rounding weights", len(modules), "layers") as bar:
            if calibration is None:
                modifier = rounding_modifier(asked, left_alone)
                oneshot(model=model, recipe=modifier, tie_word_embeddings=True, **trusted)
                bar.advance(len(modules))
            else:
                modifier = ResumableGPTQ(
                    config_groups={"group_0": asked},
                    ignore=left_alone,
                    dampening_frac=DAMPENING,
                    block_size=BLOCK_COLUMNS,
                    batched_quantization=None,  # else batches, and with them the last bits, follow the free GPU memory
                )
                modifier.guide(monitor, bar, work)
                # The rows are token ids already: the processor that oneshot insists on is never called.
                loader, processor = _loader(calibration), _NoProcessor()
                text = {"dataset": loader, "processor": processor, "pipeline": "sequential"}
                oneshot(model=model, recipe=modifier, **text, **trusted)
    _check_all_rounded(modules)
    return {"layers": len(modules), "rounded_plainly": getattr(modifier, "rounded_plainly", [])}


def _all_linears(model: nn.Module) -> set[str]:
    import torch

    return {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}


def _scheme(grid: Grid, scale_search: bool, calibrated: bool) -> dict[str, Any]:
    asked = scheme(grid)
    weights = asked["weights"]
    if not scale_search:
        weights["observer"] = "llmtune_largest"
    elif calibrated:
        weights |= {"observer": "llmtune_weighted_search", "observer_kwargs": SEARCH}
    else:
        weights |= {"observer": "llmtune_search", "observer_kwargs": SEARCH}
    return asked


class _NoProcessor:
    """Stands where oneshot wants a tokenizer."""


def _loader(rows: Sequence[Tensor]) -> Any:
    import torch
    from torch.utils.data import DataLoader

    samples = [{"input_ids": row[0], "attention_mask": torch.ones_like(row[0])} for row in rows]
    return DataLoader(samples, batch_size=1, shuffle=False)  # type: ignore[arg-type]


def _check_all_rounded(modules: dict[str, nn.Module]) -> None:
    import torch

    missed = [name for name, module in modules.items() if not hasattr(module, "weight_scale")]
    if missed:
        raise LlmtuneError(
            f"{len(missed)} of {len(modules)} linear layers were not rounded",
            where=missed[0],
            fix="add them to `ignore` to keep them in bf16, or use method nf4 or int8",
        )
    for name, module in modules.items():
        if not bool(torch.isfinite(module.weight_scale).all() & torch.isfinite(module.weight).all()):
            raise NotFinite("rounding gave a weight or scale that is not finite", where=name)


@contextmanager
def quiet() -> Iterator[None]:
    """Log lines and progress bars of llmcompressor and compressed-tensors off: the monitor tells what goes on."""
    import tqdm
    from loguru import logger

    packages = ("llmcompressor", "compressed_tensors")
    for package in packages:
        logger.disable(package)
    import llmcompressor  # noqa: F401 - its import sets the logger up

    for package in packages:
        logger.disable(package)
    shown = tqdm.tqdm.__init__
    tqdm.tqdm.__init__ = partialmethod(shown, disable=True)
    try:
        yield
    finally:
        tqdm.tqdm.__init__ = shown
        for package in packages:
            logger.enable(package)
