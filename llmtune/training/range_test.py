"""The learning-rate range test (Smith 2017, arXiv 1506.01186): which rate to train with, from a short rehearsal.

The rate rises exponentially from step to step, over a few rows each. What they cost is compared with what the *same*
rows cost before the test, so that one row being harder than another cancels out, and a row a step is enough. What is
gained grows with the rate while the rate is of use, and is lost again where it is too high. Then the weights of the
start are put back: the training that follows is, to the bit, the one with this rate written in the recipe.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from llmtune.files import read_json, write_json
from llmtune.section import Chart
from llmtune.training.inject import kill_if_injected
from llmtune.training.loop import Loop
from llmtune.training.order import rows_of_step
from llmtune.training.schedule import REHEARSAL_STEPS, rehearsal_rate, rehearsal_rows

FELL = 0.5  # nats below the start: the rate is far too high
USEFUL = 0.75  # of the most that any rate gained


@dataclass(frozen=True)
class RangeTest:
    """What a test found.

    rates: of the updates, rising
    gains: how much less (nats a target) the rows after each update cost than before the test; not smoothed
    lr:    the rate to train with; the default one where none gained anything
    """

    rates: list[float]
    gains: list[float]
    lr: float

    @property
    def reason(self) -> str:
        """Why this rate, as a phrase."""
        if chosen(self.rates, self.gains) is None:
            return "the default, because no rate gained anything"
        return f"the first rate to gain {100 * USEFUL:g} % of the most"


def range_test(loop: Loop, kept: Path) -> RangeTest:
    """The test, made once: its result is kept in the file `kept`. All ranks call it; `loop` stands at its first step,
    with the state of the start in its store."""
    if kept.exists():
        return RangeTest(**read_json(kept))
    found = _rehearse(loop)
    loop.store.put_back(loop.engine, 0)
    if loop.engine.devices.first:
        write_json(kept, asdict(found))
    return found


def _rehearse(loop: Loop) -> RangeTest:
    rows = rehearsal_rows(loop.settings, loop.steps.total)
    batches = [rows_of_step(number, len(loop.rows), rows, loop.seed) for number in range(REHEARSAL_STEPS)]
    with loop.monitor.bar("learning-rate range test", 2 * REHEARSAL_STEPS, "steps") as bar:
        before = []
        for number, ids in enumerate(batches):
            before.append(loop.loss_on(loop.samples(ids), ("range test", number)))
            bar.advance()
        rates: list[float] = []
        gains: list[float] = []
        for number, ids in enumerate(batches):
            cost = loop.gradient(ids, ("range test", number), (1.0, 1.0)).loss
            kill_if_injected("range_test", number + 1)
            rate = rehearsal_rate(number)
            norm = loop.engine.update(rate)
            bar.advance()
            bar.show(lr=f"{rate:.1e}")
            if not math.isfinite(cost):
                break
            gains.append(before[number] - cost)
            rates.append(rate)
            overflowed = not math.isfinite(norm) and not loop.engine.forgives_overflow()
            if overflowed or gains[-1] < -FELL:
                break
    rates, gains = rates[:-1], gains[1:]  # a step's cost tells of the update before it
    return RangeTest(rates, gains, chosen(rates, gains) or loop.settings.learning_rate)


def smoothed(gains: list[float]) -> list[float]:
    """Medians of each gain and its two neighbours: a single row says little."""
    return [statistics.median(gains[max(0, place - 1) : place + 2]) for place in range(len(gains))]


def chosen(rates: list[float], gains: list[float]) -> float | None:
    """The rate to train with: the first that gains USEFUL of the most that any one gains; None where none gains."""
    curve = smoothed(gains)
    most = max(curve, default=0.0)
    return next(rate for rate, gain in zip(rates, curve, strict=True) if gain >= USEFUL * most) if most > 0 else None


def curve_of(found: RangeTest) -> Chart:
    """The test as a chart."""
    return Chart(
        f"Learning-rate range test: {found.lr:.2g} is {found.reason}",
        "lines",
        x=[round(math.log10(rate), 3) for rate in found.rates],
        series={"measured": found.gains, "smoothed": smoothed(found.gains)},
        x_title="learning rate, as a power of ten",
        y_title="gain over the start (nats a token)",
    )
