"""Every setting of the `export` stage is read: change it, and the bundle holds other files or other tensors.

The float32 GGUF is converted once and taken from the work folder, as after a stop; each bundle is still proven.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, write_split
from llmtune.files import read_json
from llmtune.stages.export import ExportStage
from llmtune.stages.stage import Context
from tests.export.conftest import Converted, make
from tests.export.test_stage import _with_adapter
from tests.stages.fields import WIRING, paths_of
from tests.tiny import TEXT

pytest.importorskip("gguf")

GGUF: dict[str, Any] = {"format": "gguf"}
WEIGHED: dict[str, Any] = GGUF | {"importance": "corpus", "importance_tokens": 512}
# setting → (the settings beside it, the changed value, what of the bundle then differs)
CHANGES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "type": (GGUF, "q8_0", "blocks"),
    "embeddings": (GGUF, "f16", "tables"),
    "importance": (WEIGHED, "none", "blocks"),
    "importance_tokens": (WEIGHED, 64, "blocks"),
    "pre_tokenizer": (GGUF, "olmo", "pre_tokenizer"),  # splits as gpt-2 does: the proof holds
    "name": (GGUF, "My Model", "name"),
}
ELSEWHERE = {"format"}


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds. title: of its card; verified: what its proof says. Of a GGUF file also the hash of each
    tensor of the layers (blocks) and beside them (tables: the embedding, the head), and what it says of itself."""

    files: set[str]
    title: str
    verified: bool
    blocks: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    pre_tokenizer: str | None = None
    name: str | None = None


Exported = Callable[[dict[str, Any]], Bundle]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return make(tmp_path_factory, "llama", dtype="bfloat16")


@pytest.fixture(scope="module")
def exported(converted: Converted, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """settings → bundle; each settings run once."""
    place = tmp_path_factory.mktemp("export")
    base = {"stage": "base", "made_by": "model", "settings": {"name": "tiny/base-model"}, "inputs": {}}
    trained = {
        "stage": "train", "made_by": "train", "settings": {"adapter": {"type": "lora"}}, "inputs": {"checkpoint": base}
    }  # fmt: skip
    inputs = {
        "checkpoint": Artifact("checkpoint", converted.checkpoint, "f", "train", "train", lineage=trained),
        "base": Artifact("checkpoint", converted.checkpoint, "b", "base", "model", lineage=base),
        "corpus": Artifact("corpus", _corpus(place / "corpus"), "c", "corpus", "corpus"),
    }
    made: dict[str, Bundle] = {}

    def run(settings: dict[str, Any]) -> Bundle:
        if repr(settings) in made:
            return made[repr(settings)]
        folder = place / str(len(made))
        (folder / "output").mkdir(parents=True)
        (folder / "work").mkdir()
        stage = ExportStage.model_validate(settings)
        taken = {need.name: inputs[need.name] for need in stage.inputs_needed()}
        if stage.format == "gguf" and stage.pre_tokenizer is None:
            os.link(converted.gguf, folder / "work" / "float32.gguf")
        if stage.format == "adapter":
            weights = _with_adapter(place / "trained", converted.checkpoint)
            taken["checkpoint"] = Artifact("checkpoint", weights, "a", "train", "train", lineage=trained)
        stage.run(taken, Context(folder / "output", folder / "work", seed=7))
        made[repr(settings)] = _bundle(folder / "output")
        return made[repr(settings)]

    return run


def _corpus(folder: Path) -> Path:
    for split in ("train", "test"):
        texts = [" ".join(TEXT[(number + step) % len(TEXT)] for step in range(8)) + f" {number}" for number in range(9)]
        documents = [Document(f"{split}{n}", text, None, "s", None, "", f"{split}{n}") for n, text in enumerate(texts)]
        write_split(folder, split, documents)
    return folder


def _bundle(folder: Path) -> Bundle:
    import gguf

    files = {path.name for path in folder.iterdir()}
    card = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    title = next(line for line in card if line.startswith("# "))
    verified = read_json(folder / "verification.json")["verified"]
    found = next(folder.glob("*.gguf"), None)
    if found is None:
        return Bundle(files, title, verified)
    reader = gguf.GGUFReader(found)
    hashes = {
        one.name: f"{one.tensor_type.name} {hashlib.sha256(one.data.tobytes()).hexdigest()}" for one in reader.tensors
    }
    blocks = {name: value for name, value in hashes.items() if name.startswith("blk.")}
    tables = {name: value for name, value in hashes.items() if name not in blocks}
    own = [reader.fields[key].contents() for key in ("tokenizer.ggml.pre", "general.name")]
    return Bundle(files, title, verified, blocks, tables, *own)


def test_the_table_is_complete() -> None:
    assert paths_of(ExportStage) == set(CHANGES) | ELSEWHERE | set(WIRING)


@pytest.mark.slow
@pytest.mark.parametrize("path", CHANGES)
def test_setting_is_read(exported: Exported, path: str) -> None:
    base, value, part = CHANGES[path]
    changed = base | {path: value}
    if value == "none":
        del changed["importance_tokens"]
    before, after = exported(base), exported(changed)
    assert getattr(before, part) != getattr(after, part)
    assert before.verified is after.verified is True
    assert ExportStage.model_validate(changed).identity() != ExportStage.model_validate(base).identity()
    for other in {"blocks", "tables", "pre_tokenizer", "name"} - {part}:
        if (path, other) != ("type", "tables"):
            assert getattr(before, other) == getattr(after, other)


@pytest.mark.slow
def test_defaults_are_those_described(exported: Exported) -> None:
    plain, written = exported(GGUF), exported(GGUF | {"type": "q4_0", "embeddings": "q8_0", "importance": "none"})
    assert (plain.blocks, plain.tables) == (written.blocks, written.tables)
    assert (plain.name, plain.files & written.files) == ("base-model-tuned", plain.files)
    assert ExportStage().format == "hf"
    weighed = {key: value for key, value in WEIGHED.items() if key != "importance_tokens"}
    assert ExportStage.model_validate(weighed)._importance_tokens() == 16_384


@pytest.mark.slow
def test_every_format_holds_other_files_and_takes_the_name(exported: Exported) -> None:
    gguf = exported(GGUF)
    hf, adapter = (exported({"format": format, "name": format}) for format in ("hf", "adapter"))
    assert {name for name in gguf.files if name.endswith("gguf")} == {"base-model-tuned-Q4_0.gguf"}
    assert "model.safetensors" in hf.files - adapter.files - gguf.files
    assert "adapter_model.safetensors" in adapter.files - hf.files - gguf.files
    assert [bundle.title for bundle in (gguf, hf, adapter)] == ["# base-model-tuned", "# hf", "# adapter"]
    assert hf.verified is adapter.verified is True


@pytest.mark.parametrize("format", ["hf", "adapter"])
@pytest.mark.parametrize("path", sorted(set(CHANGES) - {"name"}))
def test_settings_without_a_meaning_are_refused(format: str, path: str) -> None:
    value = {"importance": "corpus", "importance_tokens": 512}.get(path, "q8_0")
    with pytest.raises(ValidationError, match=f"{path} belong to format gguf, not {format}"):
        ExportStage.model_validate({"format": format, path: value})
