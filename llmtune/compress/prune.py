"""Make a checkpoint with fewer layers and narrower feed-forward blocks of a checkpoint, for the text of a corpus.

prune(checkpoint, output, wish=Wish(width=0.7, layers=24), calibration=Calibration(corpus, 32, 512, seed=7), work=work)

First the layers are chosen, then the neurons of those that stay, on the model without the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.compress.prune_estimate import layers_in_a_pass
from llmtune.compress.prune_target import Target, Wish, target_of
from llmtune.compress.quantize import Calibration
from llmtune.compress.structure import Structure, find_structure, pruned_config
from llmtune.errors import NotFinite
from llmtune.files import folder_bytes, read_json, write_bytes, write_json
from llmtune.models.files import BESIDE_WEIGHTS, copy_files
from llmtune.models.shape import ModelShape, read_shape
from llmtune.monitor import Monitor
from llmtune.section import Chart, Section

if TYPE_CHECKING:
    from torch import Tensor

    from llmtune.compress.neurons import Narrowed


def prune(
    checkpoint: Path,
    output: Path,
    *,
    wish: Wish,
    calibration: Calibration,
    work: Path,
    trust_remote_code: bool = False,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """Write the smaller checkpoint, in bf16, into the folder `output`; returns its figures.

    work: folder where finished choices are kept, so that it goes on there after a kill; the bytes come out the same
    Raises LlmtuneError when the model cannot be pruned so, Stopped at a safe point.
    """
    from llmtune.models.load import load_to_run

    monitor = monitor or Monitor()
    before = read_shape(checkpoint)
    stored = find_structure(before)
    target = target_of(before, stored, wish)
    for note in target.notes:
        monitor.note(note)
    # Where nothing goes, nothing is compared: the model is only written, in bf16 as always.
    rows = _text(checkpoint, calibration, trust_remote_code, monitor) if target.leaves_out(stored) else []
    model: Any = load_to_run(checkpoint, trust_remote_code=trust_remote_code)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    structure = find_structure(ModelShape(model.config.to_dict(), shapes, 0))  # by the names that the model itself has
    dropped, influence = _choose_layers(model, structure, target, rows, work, monitor)
    kept = [number for number in range(structure.layers) if number not in dropped]
    narrowed = _choose_neurons(model, structure, target, kept, rows, work, monitor)
    monitor.safe_point()
    _save(model, structure, target, kept, narrowed, output)
    copy_files(checkpoint, output, BESIDE_WEIGHTS)
    _section(structure, target, kept, influence, narrowed).write(output)
    after = read_shape(output)
    return {
        "parameters_before": before.parameters,
        "parameters": after.parameters,
        "parameters_kept": after.parameters / before.parameters,
        "bytes": folder_bytes(output),
        "layers_kept": kept,
        "layers_dropped": dropped,
        "width_before": structure.width,
        "width": target.width,
        "score_kept": _mean([one.share for one in narrowed.values()], 1.0),
        "output_error": _mean([one.error for one in narrowed.values()], 0.0),
        "calibration_tokens": sum(row.numel() for row in rows),
    }


def _text(checkpoint: Path, calibration: Calibration, trust_remote_code: bool, monitor: Monitor) -> list[Tensor]:
    """The rows on which layers and neurons are compared."""
    from llmtune.compress.calibration import calibration_rows
    from llmtune.models.load import load_tokenizer

    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    rows = calibration_rows(
        calibration.corpus, tokenizer, calibration.rows, calibration.tokens, calibration.seed, monitor
    )
    if len(rows) < calibration.rows:
        monitor.note(
            f"calibration: the corpus gives {len(rows)} rows of {calibration.tokens} tokens, not {calibration.rows}"
        )
    return rows


def _choose_layers(
    model: Any, structure: Structure, target: Target, rows: Sequence[Tensor], work: Path, monitor: Monitor
) -> tuple[list[int], list[float]]:
    """Numbers of the layers to leave out, and the influence of each layer (none where all stay)."""
    from llmtune.compress.layers import influences, least

    if target.layers == structure.layers:
        return [], []
    file = work / "layers.json"
    if not file.is_file():
        with monitor.bar("comparing layers", len(rows), "rows") as bar:
            found = influences(model, rows, _layers(model, structure), monitor, bar)
        broken = next((number for number, one in enumerate(found) if not math.isfinite(one)), None)
        if broken is not None:
            raise _not_finite("hidden states", f"{structure.stack}{broken}")
        write_json(file, found)
    influence = read_json(file)
    return least(influence, structure.layers - target.layers), influence


def _choose_neurons(
    model: Any,
    structure: Structure,
    target: Target,
    kept: Sequence[int],
    rows: Sequence[Tensor],
    work: Path,
    monitor: Monitor,
) -> dict[int, Narrowed]:
    """The narrowed block of each layer that stays; {} where all neurons stay."""
    from llmtune.compress.layers import passed_over
    from llmtune.compress.neurons import Narrowed, narrow, second_moments

    if target.width == structure.width:
        return {}
    layers = _layers(model, structure)
    takers = [layer.get_submodule(structure.down) for layer in layers]
    files = {number: work / f"neurons-{number:05d}.safetensors" for number in kept}
    to_do = [number for number in kept if not files[number].is_file()]
    together = layers_in_a_pass(structure.width)
    groups = [to_do[start : start + together] for start in range(0, len(to_do), together)]
    with monitor.bar("comparing neurons", len(groups) * len(rows), "rows") as bar:
        for group in groups:
            with passed_over([layers[number] for number in range(len(layers)) if number not in kept]):
                moments = second_moments(model, rows, [takers[number] for number in group], monitor, bar)
            for number in group:
                monitor.safe_point()
                moment = moments.pop(0)
                if not bool(moment.isfinite().all()):
                    raise _not_finite("activations", f"{structure.stack}{number}.{structure.down}")
                weight = _outputs_first(takers[number].weight.detach().cpu(), structure)
                write_bytes(files[number], narrow(weight, moment, target.width).packed())
    return {number: Narrowed.unpacked(files[number].read_bytes()) for number in kept}


def _save(
    model: Any,
    structure: Structure,
    target: Target,
    kept: Sequence[int],
    narrowed: dict[int, Narrowed],
    output: Path,
) -> None:
    """Write weights and configuration. What is saved is a model without weights of the new shape, filled with those
    that are left: nothing in it can still think that it is the old one."""
    import torch

    from llmtune.models.save import save_checkpoint

    def cut(tensor: Tensor, axis: int, each: int, number: int) -> Tensor:
        if not narrowed:
            return tensor
        one = narrowed[number].kept
        places = torch.cat([one + half * structure.width for half in range(each)])
        return tensor.index_select(axis, places.to(tensor.device))

    weights = structure.kept(model.state_dict(), kept, cut)
    for place, number in enumerate(kept if narrowed else ()):
        weights[f"{structure.stack}{place}.{structure.down}.weight"] = _outputs_first(
            narrowed[number].weight, structure
        )
    config = type(model.config).from_dict(pruned_config(model.config.to_dict(), structure, kept, target.width))
    with torch.device("meta"):
        smaller = type(model)(config)
    smaller.generation_config = model.generation_config
    save_checkpoint(smaller, None, output, state_dict=weights)


def _not_finite(what: str, where: str) -> NotFinite:
    fix = "start from a checkpoint that works: `llmtune evaluate` tells"
    return NotFinite(f"its {what} on the calibration text are not finite", where=where, fix=fix)


def _layers(model: Any, structure: Structure) -> list[Any]:
    return list(model.get_submodule(structure.stack.rstrip(".")))


def _outputs_first(weight: Tensor, structure: Structure) -> Tensor:
    """The weight of a module that takes neurons as (out, neurons); or back again from there."""
    return weight if structure.cuts[f"{structure.down}.weight"][0] == 1 else weight.T.contiguous()


def _section(
    structure: Structure, target: Target, kept: Sequence[int], influence: Sequence[float], narrowed: dict[int, Narrowed]
) -> Section:
    """Layers and neurons, as the report shows them."""
    charts = []
    if influence:
        names = [f"{number}" + ("" if number in kept else " (left out)") for number in range(structure.layers)]
        caption = "How much each layer turns the hidden state; those that turn it least were left out"
        series = {"influence": influence}
        charts.append(Chart(caption, "bars", names, series, "layer", "1 - mean cosine of its input and output"))
    if narrowed:
        lines = {
            "scores kept": [narrowed[number].share for number in kept],
            "error of the output": [narrowed[number].error for number in kept],
        }
        caption = f"Feed-forward blocks with {target.width} of {structure.width} neurons"
        charts.append(Chart(caption, "lines", list(kept), lines, "layer", "share"))
    layers = f"{len(kept)} of {structure.layers} layers"
    return Section(f"{layers} and {target.width} of {structure.width} neurons in each were kept.", charts=charts)


def _mean(values: Sequence[float], nothing: float) -> float:
    return math.fsum(values) / len(values) if values else nothing
