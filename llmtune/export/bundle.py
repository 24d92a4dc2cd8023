"""Make a bundle: the files, the proof that they agree with their checkpoint, and the model card."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmtune.errors import BadArtifact
from llmtune.export.card import Origin, model_card
from llmtune.export.convert import convert
from llmtune.export.formats import FORMATS, embedding_format
from llmtune.export.gguf_file import Naming, Written, write_gguf
from llmtune.export.hf import export_adapter, export_checkpoint
from llmtune.export.importance import by_gguf_name, measure_importance
from llmtune.export.repack import Repacker, check_repack, unpack
from llmtune.export.verify_gguf import verify_gguf
from llmtune.export.verify_hf import verify_hf
from llmtune.files import folder_bytes, made_whole, write_json, write_text
from llmtune.monitor import Monitor

PROOF = "verification.json"


@dataclass(frozen=True)
class GgufSettings:
    """How to round. type, embeddings: formats (`embeddings` None: the default beside `type`); importance_tokens: of the
    training split to measure importance on, 0: none; pre_tokenizer: llama.cpp's name for it, None: found out."""

    type: str
    embeddings: str | None = None
    importance_tokens: int = 0
    pre_tokenizer: str | None = None


def export_hf(
    checkpoint: Path,
    target: Path,
    origin: Origin,
    *,
    trust_remote_code: bool = False,
    corpus: Path | None = None,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """A checkpoint as a folder for transformers. Returns metrics; raises VerificationFailed."""
    export_checkpoint(checkpoint, target, monitor)
    proof = verify_hf(target, checkpoint, corpus=corpus, trust_remote_code=trust_remote_code, monitor=monitor)
    return _finish(target, "hf", proof, origin, None, {}) | {"trust_remote_code": trust_remote_code}


def export_adapter_alone(
    checkpoint: Path,
    base: Path,
    target: Path,
    origin: Origin,
    *,
    base_in_4bit: bool = False,
    trust_remote_code: bool = False,
    corpus: Path | None = None,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """A checkpoint's adapter alone, for peft, proven on its base. Returns metrics; raises VerificationFailed."""
    export_adapter(checkpoint, base, origin.base_id, target)
    proof = verify_hf(
        target,
        checkpoint,
        corpus=corpus,
        base=base,
        base_in_4bit=base_in_4bit,
        trust_remote_code=trust_remote_code,
        monitor=monitor,
    )
    return _finish(target, "adapter", proof, origin, None, {"base_in_4bit": base_in_4bit})


def export_gguf(
    checkpoint: Path,
    target: Path,
    settings: GgufSettings,
    origin: Origin,
    *,
    work: Path,
    trust_remote_code: bool = False,
    corpus: Path | None = None,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """A checkpoint as one GGUF file for llama.cpp. Returns metrics; raises VerificationFailed.

    A checkpoint in compressed-tensors' format gives its codes as they are, where `settings.type` has the same grid.
    work: folder for the float32 file (4 bytes a weight; 8 when codes are multiplied out) and the importance; what is
    finished there is used again.
    """
    from llmtune.models.shape import read_config

    monitor = monitor or Monitor()
    quantized = bool(read_config(checkpoint).get("quantization_config"))
    plain = checkpoint
    if quantized:
        check_repack(checkpoint, settings.type)
        plain = made_whole(work / "unpacked", lambda to: unpack(checkpoint, to, monitor), alone=True)
    converted = _converted(plain, work, settings.pre_tokenizer, trust_remote_code, monitor)
    importance = None
    if settings.importance_tokens and not quantized and FORMATS[settings.type].block > 1:
        importance = _importance(
            plain, converted, work, corpus, settings.importance_tokens, seed, trust_remote_code, monitor
        )
    packer = Repacker(checkpoint, settings.type, monitor) if quantized else None
    file = target / f"{_file_name(origin.name)}-{settings.type.upper()}.gguf"
    embeddings = embedding_format(settings.type, settings.embeddings)
    naming = Naming(origin.name, origin.licence, origin.base, origin.base_url)
    written = write_gguf(
        converted, file, settings.type, embeddings, naming, importance=importance, packer=packer, monitor=monitor
    )
    if packer is not None and packer.unused():
        raise BadArtifact(
            f"codes of {len(packer.unused())} layers were not found again after the conversion, for example of "
            f"{packer.unused()[0]}",
            where=file.name,
            fix="leave out `from:`, so that the export starts from a checkpoint that is not quantized",
        )
    proof = verify_gguf(
        file,
        plain,
        settings.type,
        converted=converted,
        corpus=corpus,
        trust_remote_code=trust_remote_code,
        monitor=monitor,
    )
    details = _gguf_details(written, settings, embeddings, packer)
    return _finish(target, "gguf", proof | {"file": details}, origin, file, details)


def _gguf_details(written: Written, settings: GgufSettings, embeddings: str, packer: Repacker | None) -> dict[str, Any]:
    details: dict[str, Any] = {
        "type": settings.type,
        "embeddings": embeddings,
        "tensors": len(written.kinds),
        "weights_with_importance": written.weights_with_importance,
    }
    if packer is not None:
        details |= {
            "repacked_tensors": written.packed,
            "kept_tensors": written.kept,
            "scales_exact": packer.scales_exact,
        }
    return details


def _converted(plain: Path, work: Path, pre_tokenizer: str | None, trust_remote_code: bool, monitor: Monitor) -> Path:
    """The float32 GGUF, made once."""
    final = work / "float32.gguf"
    if not final.exists():
        partial = work / "float32.partial.gguf"
        partial.unlink(missing_ok=True)
        monitor.note("Converting to GGUF with llama.cpp's converter")
        convert(plain, partial, pre_tokenizer=pre_tokenizer, trust_remote_code=trust_remote_code, monitor=monitor)
        partial.replace(final)
    return final


def _importance(
    plain: Path,
    converted: Path,
    work: Path,
    corpus: Path | None,
    tokens: int,
    seed: int,
    trust_remote_code: bool,
    monitor: Monitor,
) -> dict[str, Any]:
    """Importance by GGUF tensor name, measured once."""
    import gguf
    from safetensors.numpy import load_file, save_file

    from llmtune.compress.calibration import calibration_rows
    from llmtune.models.load import load_model, load_tokenizer

    if corpus is None:
        raise BadArtifact("importance: corpus needs a corpus", fix="add a corpus stage, or set importance: none")
    file = work / "importance.safetensors"
    if not file.exists():
        row = min(512, tokens)
        tokenizer = load_tokenizer(plain, trust_remote_code=trust_remote_code)
        rows = calibration_rows(corpus, tokenizer, tokens // row, row, seed, monitor, setting="importance_tokens")
        model = load_model(plain, dtype="float32", trust_remote_code=trust_remote_code)
        partial = work / "importance.partial"
        save_file(measure_importance(model, rows, monitor), partial)
        partial.replace(file)
    architecture = str(gguf.GGUFReader(converted).fields["general.architecture"].contents())
    return by_gguf_name(load_file(file), architecture)


def _finish(
    target: Path,
    form: Literal["hf", "adapter", "gguf"],
    proof: dict[str, Any],
    origin: Origin,
    gguf_file: Path | None,
    details: dict[str, Any],
) -> dict[str, Any]:
    """Save the proof and the card; the stage's metrics."""
    write_json(target / PROOF, proof)
    file = gguf_file.name if gguf_file else None
    write_text(target / "README.md", model_card(origin, form, proof, file, details))
    metrics: dict[str, Any] = {"format": form, "verified": True, "bytes": folder_bytes(target)}
    if gguf_file is not None:
        metrics |= {"file": file, "file_bytes": gguf_file.stat().st_size, **details}
    compared = proof.get("quantization") or proof["conversion"]
    metrics |= {
        "positions": compared["positions"],
        "top1": compared["top1"],
        "kl": compared["kl"],
        "conversion_top1": proof["conversion"]["top1"],
        "conversion_kl": proof["conversion"]["kl"],
        "verification": proof,
    }
    return metrics


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
