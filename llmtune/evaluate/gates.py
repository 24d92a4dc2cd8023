"""Quality gates: conditions on a model's scores, absolute or against another model of the run. Imports no torch."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmtune.errors import LlmtuneError
from llmtune.evaluate.comparable import first_like, in_tokens_of, other_tokens, same_text

# What a gate can ask for: field of the scores → in words.
METRICS = {
    "domain_perplexity": "perplexity on held-out text of the domain",
    "domain_bits_per_byte": "bits per byte of held-out text",
    "domain_accuracy": "accuracy on questions from held-out text",
    "knowledge_accuracy": "accuracy on questions about what the training documents define",
    "knowledge_above_chance": "that accuracy less the 25 % of chance",
    "knowledge_name_accuracy": "the same, of the names that descriptions belong to",
    "knowledge_description_accuracy": "the same, of the descriptions that names have",
    "general_perplexity": "perplexity on general text",
    "general_bits_per_byte": "bits per byte of general text",
    "own_accuracy": "accuracy on your own questions",
    "parameters": "number of parameters",
    "bytes": "bytes of the weights on disk",
    "decode_tokens_per_second": "tokens generated a second",
    "prefill_tokens_per_second": "prompt tokens read a second",
    "peak_memory_bytes": "peak memory while it was measured",
}
_SHARES = ("_accuracy", "_above_chance")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_PLAIN = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_SHARE = {"": 1.0, "%": 0.01}
_BYTES = _PLAIN | {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_NUMBER = r"(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?"
_FORM = re.compile(rf"(<=|>=|<|>)\s*({_NUMBER})\s*((?!of\b)[A-Za-z%]*)(?:\s+of\s+(\S+))?")
PREVIOUS = "previous"


@dataclass(frozen=True)
class Gate:
    """`metric compare number`; with `of` (a model's id) or `previous` (the model before): number × its same metric."""

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
        hint = f"; did you mean '{near[0]}'?" if near else ";"
        raise LlmtuneError(f"no score is called '{metric}'{hint} expected one of: {', '.join(METRICS)}")
    found = _FORM.fullmatch(str(text).strip())
    if not found:
        raise LlmtuneError(f"found '{text}'; expected for example '<= 0.75 of base', '>= 0.9 of train' or '<= 80 MB'")
    compare, digits, unit, of = found.groups()
    units = _units(metric, relative=of is not None)
    if unit not in units:
        known = ", ".join(name for name in units if name)
        raise LlmtuneError(f"found the unit '{unit}' in '{text}'; expected none or one of: {known}")
    number = float(digits.replace("_", "")) * units[unit]
    if metric.endswith(_SHARES) and of is None and number > 1:
        raise LlmtuneError(f"found '{text}'; an accuracy is a share: expected for example '>= 0.9' or '>= 90 %'")
    previous = of == PREVIOUS
    return Gate(metric, compare, number, None if previous else of, previous, str(text).strip())


def _units(metric: str, relative: bool) -> dict[str, float]:
    """The units that a number of this metric may have, or a share of another model's."""
    if relative or metric.endswith(_SHARES):
        return _SHARE
    return _BYTES if metric.endswith("bytes") else _PLAIN


def check(gates: Sequence[Gate], subject: str, scores_by_stage: Mapping[str, Mapping[str, Any]]) -> list[GateResult]:
    """Check gates on the model of stage `subject`; scores_by_stage in the order of the run."""
    return [_check(gate, subject, scores_by_stage) for gate in gates]


def _check(gate: Gate, subject: str, scores: Mapping[str, Mapping[str, Any]]) -> GateResult:
    # As the scorecard shows them: perplexities in tokens of the first that was measured on the same text.
    first = first_like(gate.metric, scores.get(subject, {}), scores)
    if first is None:
        return GateResult(gate, None, None, False, f"{gate.metric} of {subject} was not measured")
    shown = {name: in_tokens_of(gate.metric, row, scores[first]) for name, row in scores.items()}
    value = shown[subject]
    assert value is not None
    units = f" (in tokens of {first})" if other_tokens(gate.metric, scores[subject], scores[first]) else ""
    other, bound = gate.of, gate.number
    if gate.previous:
        before = list(scores)[: list(scores).index(subject)]
        other = before[-1] if before else None
    if gate.previous or gate.of is not None:
        reference = shown.get(other) if other else None
        if reference is None:
            missing = f"{gate.metric} of {other or 'a model before'} was not measured"
            return GateResult(gate, value, None, False, f"{missing}, so {gate.metric} of {subject} cannot be compared")
        if not same_text(gate.metric, scores[subject], scores[str(other)]):
            differs = f"{gate.metric} of {subject} and of {other} were measured on different text"
            return GateResult(gate, value, None, False, f"{differs}, so they cannot be compared")
        bound = gate.number * max(reference, 0)  # what is below chance is no better than guessing
    ok = _COMPARE[gate.compare](value, bound)
    against = f" = {gate.number:g} of {other}" if other else ""
    verdict = "is" if ok else "is not"
    sentence = f"{gate.metric} of {subject}: {_number(value)}{units} {verdict} {gate.compare} {_number(bound)}{against}"
    return GateResult(gate, value, bound, ok, sentence)


def _number(value: float) -> str:
    return f"{value:.5g}" if abs(value) < 1000 else f"{value:,.0f}"
