"""Distillation against torch's own losses, and as a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from llmtune.errors import CannotRunHere, Stopped
from llmtune.models.load import load_tokenizer
from llmtune.training import distillation
from llmtune.training.collate import NOT_TRAINED
from llmtune.training.distillation import Distillation, Teacher, _DistillationLoss, learn_from
from llmtune.training.isolation import Isolation
from llmtune.training.settings import TrainSettings
from tests.tiny import tiny_checkpoint, tiny_model
from tests.tiny_encoders import tiny_encoder_checkpoint
from tests.training.small_run import SMALL, Interrupting, history_of, losses_of, small_place, small_train


def by_torch(student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, temperature: float, data: float):  # type: ignore[no-untyped-def]
    """The objective as torch's functions have it."""
    q, p = (F.log_softmax(logits / temperature, -1) for logits in (student, teacher))
    kl = F.kl_div(q, p, reduction="sum", log_target=True) * temperature**2
    return (1 - data) * kl + data * F.cross_entropy(student, targets, reduction="sum"), kl


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("data_loss", [0.0, 0.3])
def test_loss_and_gradient_are_torchs(temperature: float, data_loss: float) -> None:
    torch.manual_seed(0)
    student = (3 * torch.randn(7, 50)).requires_grad_()
    teacher, targets = 3 * torch.randn(7, 50), torch.randint(0, 50, (7,))
    wanted, kl = by_torch(student, teacher, targets, temperature, data_loss)
    (gradient,) = torch.autograd.grad(5 * wanted, student)
    given = teacher.clone()
    loss, ours, cross_entropy = _DistillationLoss.apply(student, given, targets, temperature, data_loss)
    (our_gradient,) = torch.autograd.grad(5 * loss, student)
    torch.testing.assert_close((loss, ours), (wanted, kl))
    torch.testing.assert_close(cross_entropy, F.cross_entropy(student, targets, reduction="sum"))
    torch.testing.assert_close(our_gradient, gradient)
    torch.testing.assert_close(given, teacher)  # a teacher's logits may be somebody else's


def test_rows_that_pad_an_embedding_count_for_nothing() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 20).requires_grad_(), torch.randn(4, 24)
    targets = torch.randint(0, 16, (4,))
    wanted, _ = by_torch(student, teacher[:, :20], targets, 1.0, 0.5)
    torch.testing.assert_close(_DistillationLoss.apply(student, teacher, targets, 1.0, 0.5)[0], wanted)
    wide = torch.randn(4, 24).requires_grad_()
    loss = _DistillationLoss.apply(wide, student.detach(), targets, 1.0, 0.5)[0]
    wanted, _ = by_torch(wide[:, :20], student.detach(), targets, 1.0, 0.5)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(torch.autograd.grad(loss, wide), torch.autograd.grad(wanted, wide))


@pytest.mark.parametrize(("student", "teacher"), [("llama", "qwen3"), ("gemma2", "llama"), ("gpt2", "granite")])
def test_the_objective_on_whole_models(student: str, teacher: str) -> None:
    """Soft-capping and scaled logits of both, only trained positions, in chunks and with the gradient of the head."""
    model, other = tiny_model(student), tiny_model(teacher, seed=5)
    ids = torch.randint(5, 300, (2, 12), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :5] = NOT_TRAINED
    batch = {"input_ids": ids, "labels": labels, "position_ids": torch.arange(12).expand(2, 12)}
    kept = labels[:, 1:] != NOT_TRAINED
    of_student, of_teacher = (one(ids, use_cache=False).logits[:, :-1][kept] for one in (model.train(), other))
    wanted, _ = by_torch(of_student, of_teacher.detach(), labels[:, 1:][kept], 1.5, 0.2)
    wanted.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    outcome = Distillation(other, 1.5, 0.2)(model, batch)
    outcome.loss.backward()
    assert int(outcome.weight) == int(kept.sum())
    torch.testing.assert_close(outcome.loss, wanted)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=name, rtol=1e-4, atol=1e-5)


def test_a_masked_input_is_whole_for_the_teacher() -> None:
    model = tiny_model()
    ids = torch.randint(5, 300, (1, 12), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, 0] = NOT_TRAINED
    masked = ids.clone()
    masked[:, 3:6] = 2
    places = torch.arange(12).expand(1, 12)
    batch = {"input_ids": masked, "labels": labels, "position_ids": places}
    with torch.no_grad():
        of_student, of_teacher = (model(one, use_cache=False).logits[0, :-1] for one in (masked, ids))
    wanted, _ = by_torch(of_student, of_teacher, ids[0, 1:], 1.0, 0.0)
    torch.testing.assert_close(Distillation(tiny_model(), 1.0, 0.0)(model.train(), batch).loss, wanted)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_place(tmp_path_factory.mktemp("distil"))
    tiny_checkpoint(folder / "teacher", "qwen3", seed=3)
    return folder


def test_a_student_comes_near_its_teacher_and_a_stop_changes_nothing(place: Path) -> None:
    teacher = Teacher(place / "teacher", data_loss=0.0)
    small_train(place, "taught", teacher=teacher)
    history = [record for record in history_of(place, "taught") if "kl" in record]
    assert history[-1]["kl"] < 0.7 * history[0]["kl"]
    assert history[0]["loss"] == pytest.approx(history[0]["kl"], rel=1e-5)
    with pytest.raises(Stopped):
        small_train(place, "stopped", Interrupting(stop_after=3), teacher=teacher)
    small_train(place, "stopped", teacher=teacher)
    files = ["model.safetensors", "history.jsonl"]
    assert all(
        (place / "taught/output" / name).read_bytes() == (place / "stopped/output" / name).read_bytes()
        for name in files
    )


def test_validation_is_the_next_tokens_loss(place: Path) -> None:
    """The same weights have the same validation loss, distilled or trained."""
    teacher = Teacher(place / "teacher", data_loss=0.5)
    still = {"tokens": 500, "lr": 1e-12}
    small_train(place, "still", teacher=teacher, **still)
    small_train(place, "plain", **still)
    losses = [[r["valid_loss"] for r in history_of(place, name) if "valid_loss" in r] for name in ("still", "plain")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert losses_of(place, "still") != losses_of(place, "plain")


def test_a_teacher_with_another_vocabulary_is_refused(place: Path) -> None:
    tiny_checkpoint(place / "foreign", vocab_size=290)
    with pytest.raises(CannotRunHere, match="another vocabulary than the student: 2"):
        small_train(place, "refused", teacher=Teacher(place / "foreign"))


def test_models_that_do_not_go_together_are_refused_with_a_message(place: Path, tmp_path: Path) -> None:
    encoder = tiny_encoder_checkpoint(place / "encoder", "bert")
    with pytest.raises(CannotRunHere, match="a bert model is an encoder, and distillation is for"):
        small_train(place, "refused", teacher=Teacher(encoder))
    (tmp_path / "model").symlink_to(encoder)
    (tmp_path / "corpus").symlink_to(place / "corpus")
    with pytest.raises(CannotRunHere, match="a bert model is an encoder, and distillation is for"):
        small_train(tmp_path, "refused", teacher=Teacher(place / "teacher"))
    short = tiny_checkpoint(place / "short", "gpt2")
    with pytest.raises(CannotRunHere, match="teacher: row_tokens 300 is more than the 256 positions"):
        small_train(place, "refused", row_tokens=300, teacher=Teacher(short))


def test_documents_are_kept_apart_for_both(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mask for all layers would undo a teacher's sliding windows: then each document has a row of its own."""
    settings, tokenizer = TrainSettings.model_validate(SMALL), load_tokenizer(place / "model")
    tiny_checkpoint(place / "windows", "gemma3_text")

    def way(teacher: str, alone: Isolation) -> Isolation:
        model, device = tiny_model(), torch.device("cpu")
        return learn_from(Teacher(place / teacher), place / "model", model, tokenizer, alone, settings, device)[1]

    assert [way("teacher", alone) for alone in ("positions", "mask", "rows")] == ["positions", "mask", "rows"]
    assert [way("windows", alone) for alone in ("positions", "mask", "rows")] == ["positions", "rows", "rows"]
    monkeypatch.setattr(distillation, "isolation_for", lambda *_: "mask")
    assert [way("teacher", alone) for alone in ("positions", "rows")] == ["mask", "rows"]
