"""Knowledge distillation (Hinton, Vinyals & Dean 2015, arXiv:1503.02531): a student learns a live teacher's logits.

The objective of a position with target y, teacher's logits t and student's logits s, at temperature T:

    (1 - a) T² KL(softmax(t / T) ‖ softmax(s / T)) + a CE(softmax(s), y)

Teacher and student read the same batch in the same step; nothing of the teacher is stored. Logits are made and used up
a chunk of positions at a time, as in loss.py, so that no (B, T, V) tensor of either model exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmtune.errors import CannotRunHere
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.shape import read_shape
from llmtune.training.collate import NOT_TRAINED
from llmtune.training.estimate import teacher_problems
from llmtune.training.isolation import Isolation, has_windows, stricter
from llmtune.training.loss import ChunkLoss, causal_model, chunked_loss, head_logits, hidden_states, next_token_loss
from llmtune.training.objective import Batch, Outcome
from llmtune.training.preparation import FROZEN_DTYPE, isolation_for
from llmtune.training.settings import TrainSettings


@dataclass(frozen=True)
class Teacher:
    """The model to learn from, and how.

    checkpoint:  its folder
    temperature: T, at least 1
    data_loss:   a, the share of the data's own loss
    """

    checkpoint: Path
    temperature: float = 1.0
    data_loss: float = 0.25
    trust_remote_code: bool = False


class Distillation:
    """See the module. Weight and targets are those of `NextToken`; in evaluation the loss is the next token's alone,
    so that it compares with that of a training, and the teacher is not asked.

    teacher: in evaluation mode on the student's device. Kept out of the module that is trained: nothing that wraps
             or partitions the student (DDP, ZeRO) sees it.
    """

    def __init__(self, teacher: Any, temperature: float, data_loss: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature = temperature
        self.data_loss = data_loss

    def weight(self, batch: Batch) -> Tensor:
        return (batch["labels"][:, 1:] != NOT_TRAINED).sum()

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        weight = self.weight(batch)
        if not model.training:
            return Outcome(next_token_loss(model, batch), weight, {})
        trained_BT = batch["labels"][:, 1:] != NOT_TRAINED
        targets_N = batch["labels"][:, 1:][trained_BT]
        with torch.no_grad():
            teacher_NH = hidden_states(self.teacher, _unmasked(batch))[:, :-1][trained_BT]
        student_NH = hidden_states(model, batch)[:, :-1][trained_BT]
        sums = {name: student_NH.new_zeros((), dtype=torch.float32) for name in ("kl", "cross_entropy")}
        loss = chunked_loss(model, student_NH, self._of_chunk(teacher_NH, targets_N, sums))
        return Outcome(loss, weight, sums)

    def _of_chunk(self, teacher_NH: Tensor, targets_N: Tensor, sums: dict[str, Tensor]) -> ChunkLoss:
        def loss(logits_nV: Tensor, positions: slice) -> Tensor:
            with torch.no_grad():
                teacher_nV = head_logits(self.teacher, teacher_NH[positions])
            total, kl, cross_entropy = _DistillationLoss.apply(
                logits_nV, teacher_nV, targets_N[positions], self.temperature, self.data_loss
            )
            sums["kl"] += kl
            sums["cross_entropy"] += cross_entropy
            return total  # type: ignore[no-any-return]

        return loss


class _DistillationLoss(torch.autograd.Function):
    """The objective summed over n positions, and its two parts, in fp32; made with the gradient, in place, like the
    cross entropy of loss.py. V is the smaller of the vocabularies: rows that only pad an embedding count for nothing.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_nV: Tensor, teacher_nV: Tensor, targets_n: Tensor, temperature: float, data_loss: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        common = min(logits_nV.shape[-1], teacher_nV.shape[-1])
        targets_n1 = targets_n[:, None]
        student_nV, student_log_n1, q_nV = _softened(logits_nV[:, :common], temperature)
        teacher_nV, teacher_log_n1, p_nV = _softened(teacher_nV[:, :common], temperature)
        # KL = Σ p (log p - log q); the shifted logits differ from the logarithms by a constant a row
        difference_nV = teacher_nV.sub_(student_nV)
        kl_n = torch.linalg.vecdot(p_nV, difference_nV) + (student_log_n1 - teacher_log_n1)[:, 0]
        if temperature == 1.0:
            hard_nV, hard_log_n1, picked_n1 = q_nV, student_log_n1, student_nV.gather(1, targets_n1)
        else:
            shifted_nV, hard_log_n1, hard_nV = _softened(logits_nV[:, :common], 1.0)
            picked_n1 = shifted_nV.gather(1, targets_n1)
        cross_entropy = (hard_log_n1 - picked_n1).sum()
        kl = kl_n.sum() * temperature**2
        if ctx.needs_input_grad[0]:
            ctx.gradient = _gradient(logits_nV, p_nV, q_nV, hard_nV, targets_n1, temperature, data_loss)
        ctx.mark_non_differentiable(kl, cross_entropy)
        return (1 - data_loss) * kl + data_loss * cross_entropy, kl, cross_entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient_nV = ctx.gradient.mul_(gradients[0])
        del ctx.gradient
        return gradient_nV, None, None, None, None


def _gradient(
    logits_nV: Tensor,
    p_nV: Tensor,
    q_nV: Tensor,
    hard_nV: Tensor,
    targets_n1: Tensor,
    temperature: float,
    data_loss: float,
) -> Tensor:
    """By the student's logits, in their format: (1 - a) T (q - p) + a (softmax(s) - one-hot). Uses its inputs up."""
    soft_weight = (1 - data_loss) * temperature
    if hard_nV is q_nV:
        gradient_nV = q_nV.sub_(p_nV, alpha=1 - data_loss)
    else:
        gradient_nV = q_nV.sub_(p_nV).mul_(soft_weight).add_(hard_nV, alpha=data_loss)
    gradient_nV.scatter_add_(1, targets_n1, gradient_nV.new_full(targets_n1.shape, -data_loss))
    gradient_nV = gradient_nV.to(logits_nV.dtype)
    missing = logits_nV.shape[-1] - gradient_nV.shape[-1]
    return torch.nn.functional.pad(gradient_nV, (0, missing)) if missing else gradient_nV


def _softened(logits_nV: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Shifted logits over T (n, V), logarithm of their exponentials' sum (n, 1), and probabilities (n, V), in fp32."""
    shifted_nV = logits_nV.to(torch.float32, copy=True).sub_(logits_nV.amax(-1, keepdim=True))
    if temperature != 1.0:
        shifted_nV.div_(temperature)
    probabilities_nV = shifted_nV.exp()
    sums_n1 = probabilities_nV.sum(-1, keepdim=True)
    return shifted_nV, sums_n1.log(), probabilities_nV.div_(sums_n1)


def _unmasked(batch: Batch) -> dict[str, Tensor]:
    """The batch as the teacher reads it: where the student's input is masked, the teacher sees what stood there."""
    labels_BT = batch["labels"]
    return {**batch, "input_ids": torch.where(labels_BT == NOT_TRAINED, batch["input_ids"], labels_BT)}


def learn_from(
    teacher: Teacher,
    student: Path,
    model: Any,
    tokenizer: Any,
    isolate: Isolation,
    settings: TrainSettings,
    device: torch.device,
) -> tuple[Distillation, Isolation]:
    """The objective, and a way to keep attention inside documents that does for both models.

    student, model, tokenizer: the student's folder, and what was loaded from it
    isolate:                   the way for the student alone
    Raises CannotRunHere where this teacher cannot teach this student: see `teacher_problems`, and their tokenizers must
    be the same, or their logits would stand for different tokens.
    """
    of_student, of_teacher = read_shape(student), read_shape(teacher.checkpoint)
    where = f"teacher {teacher.checkpoint}, student {student}"
    for problem in teacher_problems(settings, of_student, of_teacher):
        raise CannotRunHere(problem, where=where)
    trust = teacher.trust_remote_code
    difference = _vocabulary_difference(load_tokenizer(teacher.checkpoint, trust_remote_code=trust), tokenizer)
    if difference:
        raise CannotRunHere(
            f"the teacher has another vocabulary than the student: {difference}",
            where=where,
            fix="take a teacher of the same model family, with the same tokenizer",
        )
    precision = settings.precision
    other: Any = load_model(teacher.checkpoint, dtype=FROZEN_DTYPE[precision], trust_remote_code=trust)
    other.config.use_cache = False
    other = other.to(device)
    isolate = stricter(isolate, isolation_for(other, of_teacher.config, precision))
    configs = [one.config.get_text_config().to_dict() for one in (causal_model(model), other)]
    if isolate == "mask" and any(map(has_windows, configs)):
        isolate = "rows"
    return Distillation(other, teacher.temperature, teacher.data_loss), isolate


def _vocabulary_difference(teacher: Any, student: Any) -> str | None:
    """How two tokenizers differ, as a phrase; None when every token has the same number in both."""
    of_teacher, of_student = teacher.get_vocab(), student.get_vocab()
    if of_teacher == of_student:
        return None
    if len(of_teacher) != len(of_student):
        return f"{len(of_teacher):,} tokens beside {len(of_student):,}"
    token = min(token for token, number in of_teacher.items() if of_student.get(token) != number)
    return f"token {token!r} has number {of_teacher[token]} beside {of_student.get(token, 'none')}"
