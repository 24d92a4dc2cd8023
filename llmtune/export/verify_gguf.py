"""Prove that a GGUF file is the checkpoint it came from, in llama.cpp.

Two steps. First the file's own weights are read back into the Hugging Face model, each compared with the
checkpoint's, and llama.cpp's predictions are compared with that model's: both have the same weights, so any
difference beyond arithmetic is a fault of the conversion. Then llama.cpp's predictions are compared with the
checkpoint's: what is left is what rounding cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmtune.errors import VerificationFailed
from llmtune.export.agreement import ASKED, Agreement, Limits, Predictions, agreement, predict
from llmtune.export.formats import FORMATS
from llmtune.export.heldout import Window, windows
from llmtune.export.jobs.transformers_run import read
from llmtune.export.llama_runtime import LlamaRuntime
from llmtune.export.probes import CONVERSATIONS, texts_with_added_tokens
from llmtune.export.read_back import ReadBack, TensorError, read_back
from llmtune.export.reading import compare_readings, reading_figures
from llmtune.models.shape import context_of
from llmtune.monitor import Monitor

# The same weights in both runtimes. llama.cpp rounds activations to 8 bits beside quantized weights, to the format
# itself beside 16-bit ones.
CONVERSION_LIMITS = {
    "f32": Limits(0.99, 1e-4),
    "f16": Limits(0.99, 5e-4),
    "bf16": Limits(0.97, 5e-3),
    "quantized": Limits(0.93, 2e-2),
}
# Against the checkpoint, by bits per weight: what rounding may cost before the model is another one.
COST_LIMITS = (
    (16.0, Limits(0.97, 1e-2)),
    (8.0, Limits(0.95, 2e-2)),
    (6.5, Limits(0.92, 4e-2)),
    (5.0, Limits(0.85, 0.10)),
    (4.0, Limits(0.65, 0.40)),
    (3.0, Limits(0.45, 1.0)),
    (0.0, Limits(0.20, 3.0)),
)


def verify_gguf(
    gguf_file: Path,
    checkpoint: Path,
    main: str,
    *,
    converted: Path,
    corpus: Path | None = None,
    trust_remote_code: bool = False,
    timeout: float = 600,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """The proof (for verification.json) that `gguf_file` agrees with `checkpoint`.

    checkpoint: plain Hugging Face folder; main: the file's format; converted: the float32 GGUF that it was rounded
    from, used where transformers cannot invert the conversion. Raises VerificationFailed with the figures; JobFailed
    or BadArtifact when llama.cpp crashes, hangs or cannot load the file.
    """
    from llmtune.models.load import load_model, load_tokenizer

    monitor = monitor or Monitor()
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    model = load_model(checkpoint, dtype="float32", trust_remote_code=trust_remote_code)
    places, source = windows(corpus, tokenizer, context_of(model.config.to_dict()) or 2048)
    texts = texts_with_added_tokens(tokenizer)
    where = gguf_file.name
    expected = read(tokenizer, texts, CONVERSATIONS)
    with _runtime(gguf_file, places, monitor, timeout) as runtime:
        compare_readings(expected, _read(runtime, texts), texts, tokenizer, where, "llama.cpp")
        found, version = _predictions(runtime, places, monitor), runtime.version
    reference = predict(model, places, ASKED)
    back = read_back(gguf_file, model, monitor)
    _check_tensors(back, where)
    limits = CONVERSION_LIMITS[main if main in CONVERSION_LIMITS else "quantized"]
    if back.unread:
        # No inverse for this architecture: show that the float32 file it was rounded from predicts as the checkpoint.
        with _runtime(converted, places, monitor, timeout) as runtime:
            exact = _predictions(runtime, places, monitor)
        conversion, how, limits = agreement(reference, exact), "float32 file", CONVERSION_LIMITS["f32"]
    else:
        conversion = agreement(predict(model, places, ASKED), found)
        how = "own weights read back"
    cost, cost_limits = agreement(reference, found), _cost_limits(main)
    proof = {
        "verified": True,
        "runtime": {"name": "llama.cpp", "package": "xllamacpp", "version": version},
        "text": source,
        **reading_figures(expected, texts),
        "conversion": {"compared_with": how, **conversion.figures(limits)},
        "quantization": {"compared_with": "checkpoint", **cost.figures(cost_limits)},
        "tensors": _tensor_figures(back),
    }
    _check(
        conversion, limits, f"llama.cpp and the {how} in transformers disagree: a fault of the conversion", back, where
    )
    _check(cost, cost_limits, "llama.cpp and the checkpoint disagree: rounding cost too much", back, where)
    return proof


def _runtime(gguf_file: Path, places: list[Window], monitor: Monitor, timeout: float) -> LlamaRuntime:
    context = max(len(place.tokens) for place in places) + 64
    return LlamaRuntime(gguf_file, context, exact=True, timeout=timeout, monitor=monitor)


def _predictions(runtime: LlamaRuntime, places: list[Window], monitor: Monitor) -> Predictions:
    """What llama.cpp predicts at the positions."""
    import numpy as np

    ids: list[list[int]] = []
    logprobs: list[list[float]] = []
    total = sum(len(place.positions) for place in places)
    with monitor.bar("comparing predictions", total, "positions") as bar:
        for place in places:
            for position in place.positions:
                monitor.safe_point()
                top = runtime.next_token_top(place.tokens[: position + 1], ASKED)
                ids.append([token for token, _ in top])
                logprobs.append([value for _, value in top])
                bar.advance(1)
    return Predictions(np.array(ids), np.array(logprobs))


def _read(runtime: LlamaRuntime, texts: list[str]) -> dict[str, Any]:
    rendered = [runtime.apply_template(messages) for messages in CONVERSATIONS if runtime.has_template]
    return {
        "tokens": [runtime.tokenize(text) for text in texts],
        "tokens_with_special": [runtime.tokenize(text, add_special=True) for text in texts],
        "rendered": rendered,
        "tokens_of_rendered": [runtime.tokenize(text, add_special=True) for text in rendered],
    }


def _check_tensors(back: ReadBack, where: str) -> None:
    wrong = sorted((one for one in back.errors if one.excess > 1), key=lambda one: -one.excess)
    if wrong:
        named = "; ".join(_describe(one) for one in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise VerificationFailed(
            f"{len(wrong)} of {len(back.errors)} tensors are not the checkpoint's: {named}{more}",
            where=f"{where}: {wrong[0].name}",
            fix="run the export again; if it stays, the converter has a fault for this architecture: use format: hf",
        )


def _check(found: Agreement, limits: Limits, what: str, back: ReadBack, where: str) -> None:
    if found.passes(limits):
        return
    worst = f"; furthest from the checkpoint is {_describe(back.worst)}" if back.errors else ""
    raise VerificationFailed(
        f"{what}. Of {found.positions} positions {found.top1:.1%} have the same likeliest token (at least "
        f"{limits.top1:.0%} needed), mean KL {found.kl:.2e} nats (at most {limits.kl:g}){worst}",
        where=where,
        fix="choose a type with more bits, or importance: corpus" if "rounding" in what else "export with format: hf",
    )


def _describe(one: TensorError) -> str:
    return (
        f"{one.name} ({one.source}, {one.kind}): relative error {one.error:.3g} (at most {one.limit:g}), "
        f"of its worst row {one.row:.3g} (at most {one.row_limit:g})"
    )


def _tensor_figures(back: ReadBack) -> dict[str, Any]:
    kinds: dict[str, list[TensorError]] = {}
    for one in back.errors:
        kinds.setdefault(one.kind, []).append(one)
    return {
        "compared": len(back.errors),
        "not_inverted": back.unread,
        "by_format": {
            kind: {
                "tensors": len(ones),
                "worst": (top := max(ones, key=lambda one: one.error)).name,
                "relative_error": float(f"{top.error:.3g}"),
                "at_most": top.limit,
            }
            for kind, ones in sorted(kinds.items())
        },
    }


def _cost_limits(main: str) -> Limits:
    bits = FORMATS[main].bits_per_weight
    return next(limits for least, limits in COST_LIMITS if bits >= least)
