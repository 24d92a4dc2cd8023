"""Mixtures of experts on the road's further stages: GGUF, whose logits in llama.cpp are those of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, write_split
from llmtune.export.formats import planned_tensors
from llmtune.extras import have
from llmtune.files import write_json
from llmtune.machine import this_machine
from llmtune.models.shape import read_shape
from llmtune.stages.export import ExportStage
from llmtune.stages.moe import MoeStage
from llmtune.stages.stage import Context, Forecast
from tests.tiny import TEXT, tiny_checkpoint

pytestmark = pytest.mark.skipif(not have("convert_hf_to_gguf"), reason="needs the extra gguf")
LINEAGE = {
    "stage": "base",
    "made_by": "model",
    "fingerprint": "0",
    "settings": {"name": "tiny/base-model", "licence": "apache-2.0", "model": {"hub": "tiny/base-model"}},
    "inputs": {},
}
SPLIT: dict[str, Any] = {"method": "split", "experts": 3, "shared": 1, "calibration": {"rows": 4, "tokens": 32}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 12), ("test", 9)):
        texts = [" ".join(TEXT[(number + step) % 6] for step in range(8)) for number in range(count)]
        write_split(
            folder,
            split,
            [Document(f"{split}{n}", t, None, "s", "cc0", "0", f"{split}{n}") for n, t in enumerate(texts)],
        )
    sizes = {"documents": 9, "groups": 9, "characters": 5000, "bytes": 5000}
    write_json(folder / "card.json", {"splits": {"test": sizes}, "total": sizes, "licences": {"cc0": 21}})
    return Artifact("corpus", folder, "c", "corpus", "corpus")


def test_routers_are_planned_as_they_are_stored() -> None:
    """In float32, whatever the format of the experts; so llama.cpp's quantizer."""
    sizes = {"gate": (6, 64), "shared_expert_gate": (1, 64), "experts.0.down_proj": (64, 32)}
    tensors = {f"model.layers.0.mlp.{name}.weight": size for name, size in sizes.items()}
    planned = planned_tensors(tensors, {"model_type": "qwen2_moe"}, "q8_0", "q8_0")
    assert [kind for _, _, kind in planned] == ["f32", "f32", "q8_0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings", "architecture"),
    [("llama", SPLIT, "qwen2moe"), ("llama", {"method": "upcycle"}, "llama")],
    ids=["split", "upcycle"],
)
def test_llama_cpp_computes_what_transformers_does(
    family: str, settings: dict[str, Any], architecture: str, corpus: Artifact, tmp_path: Path
) -> None:
    import gguf

    dense = tiny_checkpoint(tmp_path / "dense", family, dtype="bfloat16", layers=1)
    mixture, bundle, work = tmp_path / "mixture", tmp_path / "bundle", tmp_path / "work"
    for folder in (mixture, bundle, work):
        folder.mkdir()
    inputs = {"checkpoint": Artifact("checkpoint", dense, "f", "base", "model", lineage=LINEAGE), "corpus": corpus}
    MoeStage.model_validate(settings).run(inputs, Context(mixture, work, seed=3))
    inputs["checkpoint"] = Artifact("checkpoint", mixture, "g", "moe", "moe", lineage=LINEAGE)
    stage = ExportStage.model_validate({"format": "gguf", "type": "bf16"})
    shape = read_shape(mixture)
    plan = stage.plan({"checkpoint": Forecast("checkpoint", shape.bytes, shape)}, this_machine())
    assert not plan.problems
    metrics = stage.run(inputs, Context(bundle, work, seed=3))
    assert metrics["verified"]
    assert metrics["kl"] < 1e-3
    fields = gguf.GGUFReader(bundle / metrics["file"]).fields
    assert fields["general.architecture"].contents() == architecture
