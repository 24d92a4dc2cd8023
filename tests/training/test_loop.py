"""The loop against a hand-written one, and what must not change a result: micro-batches, kills, stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from llmtune.errors import CannotRunHere, NotFinite, OutOfMemory, Stopped
from llmtune.extras import have
from llmtune.files import content_fingerprint
from llmtune.seeds import seed_of
from llmtune.training.collate import Collator, Sample
from llmtune.training.data import build_rows
from llmtune.training.order import rows_of_step
from llmtune.training.schedule import rate_at
from llmtune.training.settings import ScheduleSettings
from tests.training.small_run import Interrupting, history_of, losses_of, small_place, small_train

LORA = {"type": "lora", "rank": 4, "dropout": 0.2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_place(tmp_path_factory.mktemp("loop"))


def test_losses_are_those_of_a_plain_loop(place: Path) -> None:
    """A loop of ten lines over whole batches: mean loss from transformers' logits, torch's AdamW and clipping."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    small_train(place, "ours", micro_batch=3, optimizer={"weight_decay": 0.1, "clip": 0.5})
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype="float32").train()
    rows = build_rows(place / "corpus", "train", AutoTokenizer.from_pretrained(place / "model"), 64)
    collate = Collator(pad_id=1)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95))
    expected, steps = [], len(losses_of(place, "ours"))
    for step in range(steps):
        ids = rows_of_step(step, len(rows), 8, seed_of(7, "order"))
        batch = collate([Sample(epoch, row, rows[row]) for epoch, row in ids])
        labels = batch.pop("labels")[:, 1:].reshape(-1)
        logits = model(**batch, use_cache=False).logits[:, :-1]
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * rate_at(step, steps, ScheduleSettings())
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert losses_of(place, "ours") == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_accumulation_does_not_change_the_gradient(place: Path, micro_batch: int) -> None:
    """Rows have unequally many targets, so a mean of means would show (transformers #34191)."""
    if not (place / "whole").exists():
        small_train(place, "whole", micro_batch=8)
    small_train(place, f"micro-{micro_batch}", micro_batch=micro_batch)
    assert losses_of(place, f"micro-{micro_batch}") == pytest.approx(losses_of(place, "whole"), abs=2e-4)
    norms = [[r["grad_norm"] for r in history_of(place, n) if "loss" in r] for n in ("whole", f"micro-{micro_batch}")]
    assert norms[0][:3] == pytest.approx(norms[1][:3], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "adapter"), [("bf16", None), ("bf16", LORA), ("fp32", {**LORA, "type": "dora"})])
def test_interrupted_anywhere_the_result_is_the_same_to_the_bit(
    place: Path, precision: str, adapter: dict[str, Any] | None
) -> None:
    name = f"{precision}-{adapter and adapter['type']}"
    settings = {"precision": precision, "adapter": adapter, "checkpoint_steps": 2, "validation": {"every": 3}}
    metrics = small_train(place, name, **settings)
    assert metrics["steps"] == 7
    for fail_after in (
        1,
        4,
        7,
    ):  # nothing saved; between two checkpoints; the last not yet saved
        with pytest.raises(RuntimeError, match="went away"):
            small_train(place, f"{name}-again", Interrupting(fail_after=fail_after), **settings)
    with pytest.raises(Stopped):
        small_train(place, f"{name}-stopped", Interrupting(stop_after=5), **settings)
    resumed = Interrupting()
    again = small_train(place, f"{name}-again", **settings)
    stopped = small_train(place, f"{name}-stopped", resumed, **settings)
    assert [step["step"] for step in resumed.steps] == [6, 7]  # a stop loses no step
    whole = content_fingerprint([place / name / "output"])
    assert content_fingerprint([place / f"{name}-again" / "output"]) == whole
    assert content_fingerprint([place / f"{name}-stopped" / "output"]) == whole
    assert again["loss_last"] == stopped["loss_last"] == metrics["loss_last"]


def test_a_checkpoint_more_is_saved_where_a_crash_would_lose_too_much(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmtune.training import loop

    small_train(place, "quarters")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    for name, settings in (("late", {}), ("asked", {"checkpoint_steps": 5})):
        with pytest.raises(RuntimeError, match="went away"):
            small_train(place, name, Interrupting(fail_after=4), **settings)
    folders = [place / name / "work/checkpoints" for name in ("late", "asked")]
    saved = [sorted(path.name for path in folder.glob("step-*")) for folder in folders]
    # Step 4 was not yet saved; what the recipe asks for is done as it says; step 2 is there to go back to.
    assert saved == [["step-000002", "step-000003"], ["step-000002"]]
    small_train(place, "late")
    assert content_fingerprint([place / "late/output"]) == content_fingerprint([place / "quarters/output"])


def test_nan_without_a_guard_ends_the_training_and_poisons_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"checkpoint_steps": 2, "guard": None}
    small_train(place, "good", **settings)
    monkeypatch.setenv("LLMTUNE_INJECT", "nan@step:5")
    with pytest.raises(NotFinite, match="loss of step 5") as caught:
        small_train(place, "nan", **settings)
    assert "step-000004" in str(caught.value)
    assert [p.name for p in (place / "nan/work/checkpoints").glob("step-*")] == ["step-000004"]
    monkeypatch.delenv("LLMTUNE_INJECT")
    small_train(place, "nan", **settings)
    assert content_fingerprint([place / "nan/output"]) == content_fingerprint([place / "good/output"])


def test_a_diverging_run_is_stopped_by_its_gradient(place: Path) -> None:
    class Exploding:
        """An objective whose loss is finite while its gradient is not."""

        def weight(self, batch: Any) -> torch.Tensor:
            return torch.tensor(1.0)

        def __call__(self, model: Any, batch: Any) -> Any:
            from llmtune.training.objective import Outcome

            weight = next(p for p in model.parameters() if p.requires_grad)
            return Outcome((weight * 0).sum().clamp(min=0).sqrt(), torch.tensor(1.0), {})

    with pytest.raises(NotFinite, match=r"gradient of step 1 is not a finite number \(roll-backs: 3\)"):
        small_train(place, "explode", objective=Exploding())


@pytest.mark.slow
def test_interrupted_inside_a_later_epoch(place: Path) -> None:
    settings = {"tokens": None, "epochs": 3, "checkpoint_steps": 1}
    metrics = small_train(place, "epochs", **settings)
    late = metrics["steps"] - 2
    assert late * 8 > 2 * metrics["rows"], "inside the third epoch"
    with pytest.raises(Stopped):
        small_train(place, "epochs-again", Interrupting(stop_after=late), **settings)
    small_train(place, "epochs-again", **settings)
    assert content_fingerprint([place / "epochs-again/output"]) == content_fingerprint([place / "epochs/output"])


def test_what_is_trained_is_fp32_whatever_it_was_saved_in(tmp_path: Path) -> None:
    """Updates of a thousandth of a weight are lost in bf16, which has eight bits."""
    from llmtune.training.preparation import prepared_model
    from llmtune.training.settings import TrainSettings
    from tests.tiny import tiny_checkpoint

    folder = tiny_checkpoint(tmp_path / "model", dtype="bfloat16")
    for adapter in (None, LORA):
        settings = TrainSettings.model_validate({"tokens": 1, "precision": "bf16", "adapter": adapter})
        model = prepared_model(folder, settings, 0, device=torch.device("cpu"), trust_remote_code=False)
        trained = [p for p in model.parameters() if p.requires_grad]
        assert {p.dtype for p in trained} == {torch.float32}
        before = [p.detach().clone() for p in trained]
        with torch.no_grad():
            for _ in range(20):
                for parameter in trained:
                    parameter.add_(1e-5)
        for parameter, old in zip(trained, before, strict=True):
            torch.testing.assert_close(parameter - old, torch.full_like(old, 2e-4), rtol=0.01, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not have("bitsandbytes"), reason="needs the extra bitsandbytes")
def test_qlora_is_saved_merged_into_the_weights_it_trained_against(place: Path) -> None:
    """Each saved weight is the dequantized one plus the product of the saved adapter, rounded once."""
    from safetensors.torch import load_file

    from llmtune.models.adapters import load_for_qlora

    small_train(place, "qlora", adapter={"type": "qlora", "rank": 4, "alpha": 8.0}, precision="bf16", lr=2e-2)
    output = place / "qlora" / "output"
    saved, adapter = load_file(output / "model.safetensors"), load_file(output / "adapter/adapter_model.safetensors")
    base = load_for_qlora(place / "model", "bfloat16")
    name = "model.layers.1.mlp.up_proj"
    layer = base.get_submodule(name)
    import bitsandbytes.functional as bnb

    weight = bnb.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    product = adapter[f"base_model.model.{name}.lora_B.weight"] @ adapter[f"base_model.model.{name}.lora_A.weight"]
    merged = (weight + 2.0 * product.float()).bfloat16().float()
    assert (2.0 * product).abs().max() > 1e-3
    torch.testing.assert_close(saved[f"{name}.weight"].float(), merged, rtol=1 / 128, atol=1e-5)


@pytest.mark.slow
def test_best_weights_are_kept(place: Path) -> None:
    """At a rate that ruins the model ever more the best validation is the first; the weights saved are of the best."""
    settings = {"lr": 3.0, "tokens": 4000, "validation": {"every": 1}, "schedule": {"type": "constant", "warmup": 0}}
    settings |= {"guard": None}  # it would not have it
    metrics = small_train(place, "best", **settings)
    valid = {r["step"]: r["valid_loss"] for r in history_of(place, "best") if "valid_loss" in r}
    best = min(valid, key=lambda step: valid[step])
    assert metrics["kept_step"] == best < metrics["steps"]
    assert metrics["valid_loss"] == valid[best]
    last = small_train(place, "last", **{**settings, "validation": {"every": 1, "keep": "last"}})
    assert last["kept_step"] == last["steps"]
    assert last["valid_loss"] == [r["valid_loss"] for r in history_of(place, "last") if "valid_loss" in r][-1]
    assert content_fingerprint([place / "best/output/model.safetensors"]) != content_fingerprint(
        [place / "last/output/model.safetensors"]
    )
    tokens = int((best - 0.5) * metrics["tokens"] / metrics["steps"])  # just into the best step
    short = {**settings, "tokens": tokens, "validation": {"every": 1, "keep": "last"}}
    stopped = small_train(place, "short", **short)
    assert stopped["steps"] == best
    assert content_fingerprint([place / "best/output/model.safetensors"]) == content_fingerprint(
        [place / "short/output/model.safetensors"]
    )


@pytest.mark.slow
def test_what_is_saved_is_what_was_trained(place: Path) -> None:
    """The last validation loss, computed again from the saved folder by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for kind in (None, "lora", "dora", "qlora"):
        if kind == "qlora" and not have("bitsandbytes"):
            continue
        adapter, name = kind and {"type": kind, "rank": 8}, f"saved-{kind}"
        metrics = small_train(place, name, adapter=adapter, validation={"keep": "last", "rows": 100})
        folder = place / name / "output"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        rows = build_rows(place / "corpus", "valid", AutoTokenizer.from_pretrained(folder), 64)
        total = count = 0.0
        for index, row in enumerate(rows):
            batch = Collator(pad_id=1)([Sample(0, index, row)])
            labels = batch.pop("labels")[0, 1:]
            logits = model(**batch, use_cache=False).logits[0, :-1]
            total += float(F.cross_entropy(logits.detach(), labels, reduction="sum"))
            count += int((labels != -100).sum())
        assert total / count == pytest.approx(metrics["valid_loss"], abs=0.01)  # saved in bf16


def test_out_of_memory_halves_the_micro_batch_down_to_one_row(place: Path) -> None:
    assert small_train(place, "halved", halvings=1, tokens=600)["micro_batch"] == 2
    with pytest.raises(OutOfMemory, match="one row at a time"):
        small_train(place, "none-left", halvings=3)


def test_formats_that_cannot_be_trained_in_are_refused(place: Path) -> None:
    for precision in ("fp8",) if torch.cuda.is_available() else ("fp8", "fp16"):
        with pytest.raises(CannotRunHere, match=precision):
            small_train(place, "refused", precision=precision)
    if not torch.cuda.is_available():
        with pytest.raises(CannotRunHere, match="cuda"):
            small_train(place, "refused", device="cuda")


def test_metrics_and_history(place: Path) -> None:
    metrics = small_train(place, "metrics", validation={"every": 2, "rows": 5})
    history = history_of(place, "metrics")
    assert [r["step"] for r in history if "valid_loss" in r] == [2, 4, 6, 7]
    assert metrics["tokens"] == history[-2]["tokens"]
    assert 0 < metrics["padding_share"] < 0.2
    assert metrics["trainable_parameters"] == sum(
        p.numel() for p in __import__("tests.tiny", fromlist=["tiny_model"]).tiny_model("llama").parameters()
    )
    assert metrics["peak_memory"] > 100e6
    assert not any("second" in key for record in history for key in record)  # nothing measured in an artifact


def test_the_stage_makes_a_checkpoint_from_artifacts(place: Path) -> None:
    from transformers import AutoModelForCausalLM

    from llmtune.artifacts import Artifact
    from llmtune.stages.stage import Context
    from llmtune.stages.train import TrainStage

    inputs = {
        kind: Artifact(kind, place / folder, "0", kind, "test", metrics={"trust_remote_code": False})
        for kind, folder in (("checkpoint", "model"), ("corpus", "corpus"))
    }
    (place / "stage").mkdir()
    context = Context(place / "stage", place / "stage-work", seed=7)
    settings = {"tokens": 600, "row_tokens": 64, "batch_tokens": 256, "precision": "fp32"}
    metrics = TrainStage.model_validate(settings).run(inputs, context)
    assert metrics["method"] == "full"
    assert metrics["trust_remote_code"] is False
    assert AutoModelForCausalLM.from_pretrained(place / "stage").num_parameters() == metrics["trainable_parameters"]


def test_without_a_valid_split_the_last_weights_are_kept(place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(place / "model", tmp_path / "model")
    shutil.copytree(place / "corpus" / "train", tmp_path / "corpus" / "train")
    monitor = Interrupting()
    metrics = small_train(tmp_path, "run", monitor, tokens=600)
    assert metrics["valid_loss"] is None
    assert metrics["kept_step"] == metrics["steps"]
    assert any("no valid split" in note for note in monitor.notes)
