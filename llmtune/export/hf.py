"""Bundles for transformers: the checkpoint's own files, or its adapter alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from llmtune.errors import BadArtifact
from llmtune.files import read_json, write_json
from llmtune.models.files import TOKENIZER, copy_files, files_of
from llmtune.monitor import Monitor

_CHUNK = 16 << 20


def export_checkpoint(checkpoint: Path, target: Path, monitor: Monitor | None = None) -> None:
    """Copy a checkpoint's files into `target`. Raises BadArtifact when the folder is damaged."""
    from llmtune.models.shape import read_shape

    read_shape(checkpoint)
    monitor = monitor or Monitor()
    files = files_of(checkpoint)
    total = sum(path.stat().st_size for path in files)
    with monitor.bar("copying", total, "bytes") as bar:
        for path in files:
            place = target / path.relative_to(checkpoint)
            place.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, place.open("wb") as copy:
                while block := source.read(_CHUNK):
                    monitor.safe_point()
                    copy.write(block)
                    bar.advance(len(block))


def export_adapter(checkpoint: Path, base: Path, base_id: str | None, target: Path) -> None:
    """Copy the adapter of a checkpoint into `target`, with its tokenizer. Raises BadArtifact when there is none, or
    when it was trained on another base than `base`.

    base_id: of the base on the hub, from where peft fetches it by that name. None: the adapter names no base, since
    whatever stood there would be taken for the id of a repository, which may be anybody's."""
    from llmtune.models.adapter_files import CONFIG, WEIGHTS, check_adapter_fits

    adapter = checkpoint / "adapter"
    if not adapter.is_dir():
        raise BadArtifact(
            "this checkpoint has no adapter: all of its weights were trained",
            where=checkpoint.name,
            fix="export it with format: hf, or train with `adapter:`",
        )
    check_adapter_fits(adapter, base)
    shutil.copyfile(adapter / WEIGHTS, target / WEIGHTS)
    write_json(target / CONFIG, read_json(adapter / CONFIG) | {"base_model_name_or_path": base_id})
    copy_files(checkpoint, target, TOKENIZER)
