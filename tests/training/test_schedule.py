"""Learning-rate schedules against hand-worked numbers and transformers' own."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from llmtune.training.schedule import rate_at
from llmtune.training.settings import ScheduleSettings


def rates(steps: int, **settings: object) -> list[float]:
    schedule = ScheduleSettings(**settings)
    return [rate_at(step, steps, schedule) for step in range(steps)]


def test_hand_worked_numbers() -> None:
    assert rates(10, type="constant", warmup=0.2) == [0.5] + [1.0] * 9
    linear = rates(10, type="linear", warmup=0.2, floor=0.2)
    assert linear == pytest.approx([0.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    wsd = rates(10, type="wsd", warmup=0.1, decay=0.4, floor=0.0)
    assert wsd == pytest.approx([1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0.0])
    cosine = rates(4, type="cosine", warmup=0.0, floor=0.0)
    assert cosine == pytest.approx([(1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0.0])


def test_cosine_is_that_of_transformers() -> None:
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=5, num_training_steps=50)
    expected = []
    for _ in range(51):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(50, type="cosine", warmup=0.1, floor=0.0) == pytest.approx(expected[1:])


def test_default_floor_is_a_tenth_and_every_step_learns() -> None:
    for kind in ("cosine", "linear", "wsd"):
        found = rates(40, type=kind)
        assert found[-1] == pytest.approx(0.1)
        assert max(found) == 1.0
        assert min(found) > 0
    assert rates(1) == pytest.approx([1.0])


def test_impossible_combinations_are_refused() -> None:
    with pytest.raises(ValidationError, match="decay is for schedule type wsd"):
        ScheduleSettings(type="cosine", decay=0.1)
    with pytest.raises(ValidationError, match="floor has no meaning"):
        ScheduleSettings(type="constant", floor=0.1)
    with pytest.raises(ValidationError, match="may not exceed 1"):
        ScheduleSettings(type="wsd", warmup=0.5, decay=0.6)
