"""Quality gates: conditions on a model's scores, absolute or against another model of the run. Imports no torch."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmtune.errors import LlmtuneError

# What a gate can ask for: field of the scores → in words.
METRICS = {
    "domain_perplexity": "perplexity on held-out text of the domain",
    "domain_bits_per_byte": "bits per byte of held-out text",
    "domain_accuracy": "accuracy on questions from held-out text",
    "general_perplexity": "perplexity on general text",
    "general_bits_per_byte": "bits per byte of general text",
    "own_accuracy": "accuracy on your own questions",
    "parameters": "number of parameters",
    "bytes": "bytes of the weights on disk",
    "decode_tokens_per_second": "tokens generated a second",
    "prefill_tokens_per_second": "prompt tokens read a second",
    "peak_memory_bytes": "peak memory while it was measured",
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_UNITS = {"": 1.0, "%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9,
          "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}  # fmt: skip
_FORM = re.compile(r"^\s*(<=|>=|<|>)\s*([0-9][0-9_]*\.?[0-9]*(?:e-?[0-9]+)?)\s*([A-Za-z%]*)\s*(?:of\s+(\S+))?\s*$")
PREVIOUS = "previous"


@dataclass(frozen=True)
class Gate:
    """`metric compare number`, or `number × the same metric of model `of``; previous: of the model before."""

    metric: str
    compare: str
    number: float
    of: str | None
    previous: bool
    text: str


@dataclass(frozen=True)
class GateResult:
    """What was found, what it had to keep to, and a sentence for the person. Values are None where not measured."""

    gate: Gate
    value: float | None
    bound: float | None
    ok: bool
    sentence: str


def parse_gate(metric: str, text: str) -> Gate:
    """Read one gate of a recipe; raises LlmtuneError saying what was expected."""
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise LlmtuneError(f"no score is called '{metric}'{hint} expected one of: {', '.join(METRICS)}")
    found = _FORM.match(str(text))
    if not found or found[3] not in _UNITS:
        raise LlmtuneError(f"found '{text}'; expected for example '<= 0.75 of base', '>= 0.9 of train' or '<= 80 MB'")
    compare, number, unit, of = found.groups()
    previous = of == PREVIOUS
    return Gate(metric, compare, float(number) * _UNITS[unit], None if previous else of, previous, str(text).strip())


def check(
    gates: Sequence[Gate], subject: str, scores_by_stage: Mapping[str, Mapping[str, Any]]
) -> list[GateResult]:
    """Check gates on the model of stage `subject`; scores_by_stage in the order of the run."""
    return [_check(gate, subject, scores_by_stage) for gate in gates]


def _check(gate: Gate, subject: str, scores: Mapping[str, Mapping[str, Any]]) -> GateResult:
    value = scores.get(subject, {}).get(gate.metric)
    if value is None:
        return GateResult(gate, None, None, False, f"{gate.metric} of {subject} was not measured")
    other, bound = gate.of, gate.number
    if gate.previous:
        before = list(scores)[: list(scores).index(subject)]
        other = before[-1] if before else None
    if gate.previous or gate.of is not None:
        reference = scores.get(other, {}).get(gate.metric) if other else None
        if reference is None:
            missing = f"{gate.metric} of {other or 'a model before'} was not measured"
            return GateResult(gate, value, None, False, f"{missing}, so {gate.metric} of {subject} cannot be compared")
        bound = gate.number * reference
    ok = _COMPARE[gate.compare](value, bound)
    against = f" = {gate.number:g} of {other}" if other else ""
    verdict = "is" if ok else "is not"
    sentence = f"{gate.metric} of {subject}: {_number(value)} {verdict} {gate.compare} {_number(bound)}{against}"
    return GateResult(gate, value, bound, ok, sentence)


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
