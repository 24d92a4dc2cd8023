"""Prove that an exported Hugging Face folder, or an adapter on its base, is the checkpoint it came from.

The bundle is loaded by plain transformers in a fresh, isolated process (`python -I`) that does not import llmtune; the
checkpoint by llmtune in this one. Both have the same weights, so they must agree up to arithmetic.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact, VerificationFailed
from llmtune.export.agreement import ASKED, Agreement, Limits, Predictions, agreement, predict
from llmtune.export.heldout import windows
from llmtune.export.jobs.transformers_run import read
from llmtune.export.probes import CONVERSATIONS, texts_with_added_tokens
from llmtune.export.process import JobFailed, run_job
from llmtune.export.reading import compare_readings, reading_figures
from llmtune.monitor import Monitor

SAME_WEIGHTS = Limits(0.99, 1e-6)
# Quantized checkpoints compute in bf16, whose products depend on the kernel.
SAME_CODES = Limits(0.97, 5e-3)
# The merged weights were rounded to bf16 after the adapter was added; beside the base they are not.
MERGED = Limits(0.95, 5e-3)
# The same, beside a base in 4 bits whose products are bf16.
MERGED_4BIT = Limits(0.90, 3e-2)


def verify_hf(
    bundle: Path,
    checkpoint: Path,
    *,
    corpus: Path | None = None,
    base: Path | None = None,
    base_in_4bit: bool = False,
    trust_remote_code: bool = False,
    timeout: float = 1800,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """The proof (for verification.json) that the bundle agrees with the checkpoint.

    base: for an adapter, the checkpoint it belongs on; base_in_4bit: whether it was trained against that base in NF4.
    Raises VerificationFailed with the figures, also when transformers cannot load the bundle.
    """
    import transformers

    from llmtune.models.load import load_model, load_tokenizer
    from llmtune.models.shape import context_of, read_config

    quantized = bool(read_config(checkpoint).get("quantization_config"))
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    dtype = "auto" if quantized else "bfloat16" if base_in_4bit else "float32"
    model = load_model(checkpoint, dtype=dtype, trust_remote_code=trust_remote_code)
    places, source = windows(corpus, tokenizer, context_of(model.config.to_dict()) or 2048)
    texts = texts_with_added_tokens(tokenizer)
    expected, reference = read(tokenizer, texts, CONVERSATIONS), predict(model, places, ASKED)
    # The same attention in both: some families' default in transformers leaves out their soft-capping.
    attention = model.config._attn_implementation
    del model
    job = {
        "attention": attention,
        "trust_remote_code": trust_remote_code,
        "folder": str(base or bundle),
        "adapter": str(bundle) if base else None,
        "nf4": base_in_4bit,
        "dtype": dtype,
        "texts": texts,
        "conversations": CONVERSATIONS,
        "windows": [(place.tokens, place.positions) for place in places],
        "top": ASKED,
    }
    found, predictions = _fresh(job, timeout, monitor or Monitor())
    compare_readings(expected, found, texts, tokenizer, "bundle", "transformers in a fresh process")
    limits = (MERGED_4BIT if base_in_4bit else MERGED) if base else SAME_CODES if quantized else SAME_WEIGHTS
    agreed = agreement(reference, predictions)
    _check(agreed, limits)
    return {
        "verified": True,
        "runtime": {"name": "transformers", "version": transformers.__version__, "process": "fresh, without llmtune"},
        "text": source,
        **reading_figures(expected, texts),
        "conversion": {"compared_with": "checkpoint", **agreed.figures(limits)},
    }


def _fresh(job: dict[str, Any], timeout: float, monitor: Monitor) -> tuple[dict[str, Any], Predictions]:
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="llmtune-") as folder:
        arrays = Path(folder) / "predictions.npz"
        try:
            found = run_job("transformers_run", {**job, "arrays": str(arrays)}, "loading the bundle", timeout, monitor)
        except JobFailed as error:
            raise VerificationFailed(
                f"plain transformers cannot run the bundle: {error.what}", where="bundle", fix=error.fix
            ) from error
        if found["imported_llmtune"]:
            raise BadArtifact("the fresh process imported llmtune, so it proves nothing", where="bundle")
        with np.load(arrays) as loaded:
            return found, Predictions(loaded["ids"], loaded["logprobs"])


def _check(found: Agreement, limits: Limits) -> None:
    if not found.passes(limits):
        raise VerificationFailed(
            f"the bundle in a fresh process and the checkpoint disagree: of {found.positions} positions "
            f"{found.top1:.1%} have the same likeliest token (at least {limits.top1:.0%} needed), mean KL "
            f"{found.kl:.2e} nats (at most {limits.kl:g})",
            where="bundle",
            fix="run the stage that made the checkpoint again; its files do not hold the model that it measured",
        )
