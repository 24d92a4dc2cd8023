"""Make a smaller checkpoint of a checkpoint: its linear layers in 8, 4 or 3 bits, all else in bf16.

quantize(checkpoint, output, method="gptq", grid=Grid(4, 32, True), calibration=Calibration(corpus, 64, 512, seed=7))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.compress.codes import has_codes, quantization_config, read_codes
from llmtune.compress.grid import Grid, Method, check_group_size, linears
from llmtune.errors import LlmtuneError
from llmtune.files import read_json, write_json
from llmtune.machine import this_machine
from llmtune.models.files import BESIDE_WEIGHTS, copy_files
from llmtune.monitor import Monitor


@dataclass(frozen=True)
class Calibration:
    """Text to fit to: `rows` rows of `tokens` tokens from the train split of the corpus folder, drawn by `seed`."""

    corpus: Path
    rows: int
    tokens: int
    seed: int


def quantize(
    checkpoint: Path,
    output: Path,
    *,
    method: Method,
    grid: Grid | None = None,
    calibration: Calibration | None = None,
    scale_search: bool = True,
    ignore: Sequence[str] = ("lm_head",),
    work: Path | None = None,
    trust_remote_code: bool = False,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """Write the quantized checkpoint into the folder `output`; returns its figures.

    method: nf4, int8 (bitsandbytes), round, gptq (by `grid`; gptq with `calibration`)
    work: folder where gptq keeps finished layers, so that it goes on there after a kill; the bytes come out the same
    Raises LlmtuneError when the model cannot be quantized so, Stopped at a safe point.
    """
    from llmtune.models.shape import read_shape

    monitor = monitor or Monitor()
    shape = read_shape(checkpoint)
    if quantization_config(checkpoint) is not None:
        raise LlmtuneError(
            "this checkpoint is quantized already",
            where="quantize",
            fix="start from the checkpoint before it: `from: <id of that stage>`",
        )
    if method in ("nf4", "int8"):
        metrics = _by_bitsandbytes(checkpoint, output, method, ignore, trust_remote_code, monitor)
    else:
        if grid is None or (method == "gptq") != (calibration is not None):
            raise LlmtuneError("round and gptq need a grid, gptq (and only it) calibration text", where="quantize")
        check_group_size(linears(shape, ignore), grid.group_size)
        metrics = _by_group(
            checkpoint, output, grid, calibration, scale_search, ignore, work, trust_remote_code, monitor
        )
    copy_files(checkpoint, output, BESIDE_WEIGHTS)
    monitor.safe_point()
    return metrics | figures(checkpoint, output)


def figures(checkpoint: Path, output: Path) -> dict[str, Any]:
    """Sizes, bits per weight and rounding errors of the quantized checkpoint `output`, made from `checkpoint`."""
    from llmtune.compress.measure import rounding_error, size_metrics
    from llmtune.models.shape import read_shape

    found = size_metrics(output, read_shape(checkpoint))
    if has_codes(output):
        found["weight_error"] = rounding_error(output, checkpoint)
        found["scales_exact_in_fp16"] = all(codes.scales_fit_fp16() for codes in read_codes(output))
    return found


def _by_bitsandbytes(
    checkpoint: Path, output: Path, method: Any, ignore: Sequence[str], trust_remote_code: bool, monitor: Monitor
) -> dict[str, Any]:
    from llmtune.compress.bnb import load_rounded

    with monitor.bar(f"rounding weights to {method}", 2, "steps") as bar:
        model, layers = load_rounded(checkpoint, method, ignore, trust_remote_code=trust_remote_code)
        bar.advance()
        monitor.safe_point()
        model.save_pretrained(output)
        bar.advance()
    _clean_config(output)
    return {"method": method, "layers": layers}


def _by_group(
    checkpoint: Path,
    output: Path,
    grid: Grid,
    calibration: Calibration | None,
    scale_search: bool,
    ignore: Sequence[str],
    work: Path | None,
    trust_remote_code: bool,
    monitor: Monitor,
) -> dict[str, Any]:
    import torch

    from llmtune.compress.calibration import calibration_rows
    from llmtune.compress.groupwise import check_family, quiet, round_to_codes
    from llmtune.compress.quantize_estimate import bytes_in_work
    from llmtune.models.load import load_model, load_tokenizer

    check_family(read_json(checkpoint / "config.json").get("model_type", ""))
    rows = None
    if calibration is not None:
        rows = calibration_rows(
            calibration.corpus,
            load_tokenizer(checkpoint, trust_remote_code=trust_remote_code),
            calibration.rows,
            calibration.tokens,
            calibration.seed,
            monitor,
        )
        if len(rows) < calibration.rows:
            monitor.note(
                f"calibration: the corpus gives {len(rows)} rows of {calibration.tokens} tokens, not {calibration.rows}"
            )
    widened = bytes_in_work(grid, calibration is not None, this_machine()) == 4
    dtype = "float32" if widened else "bfloat16"
    model: Any = load_model(checkpoint, dtype=dtype, trust_remote_code=trust_remote_code)
    model.config.name_or_path = str(checkpoint)  # llmcompressor looks there whether it is quantized already
    done = round_to_codes(
        model,
        grid,
        ignore,
        calibration=rows,
        scale_search=scale_search,
        work=work,
        trust_remote_code=trust_remote_code,
        monitor=monitor,
    )
    for name in done["rounded_plainly"]:
        monitor.note(f"{name}: its calibration inputs gave no usable Hessian, so it was rounded plainly")
    monitor.safe_point()
    with quiet():
        from compressed_tensors import ModelCompressor

        # Before the cast: weights rounded to bf16 would not give their own codes back. The scales are exact in it.
        ModelCompressor.from_pretrained_model(model).compress_model(model)
        if widened:
            model = model.to(torch.bfloat16)
        model.save_pretrained(output, save_compressed=True)
    (output / "recipe.yaml").unlink(
        missing_ok=True
    )  # llmcompressor's own, with its version's defaults; ours is the run's
    _clean_config(output)
    return {
        "method": "round" if rows is None else "gptq",
        "layers": done["layers"],
        "rounded_plainly": done["rounded_plainly"],
        "calibration_tokens": 0 if rows is None else sum(row.numel() for row in rows),
    }


def _clean_config(output: Path) -> None:
    """Leave in config.json only what describes the model: no path it was read from, no trace of the scale search
    (which other readers of the format may not know)."""
    config = read_json(output / "config.json")
    config.pop("_name_or_path", None)
    for group in (config["quantization_config"].get("config_groups") or {}).values():
        group["weights"]["observer"] = "memoryless_minmax"
        group["weights"]["observer_kwargs"] = {}
    write_json(output / "config.json", config)
