"""Gates: their grammar, and what they say."""

from __future__ import annotations

from typing import Any

import pytest

from llmtune.errors import LlmtuneError
from llmtune.evaluate.gates import METRICS, GateResult, check, parse_gate
from llmtune.evaluate.scorecard import Scorecard

SCORES: dict[str, dict[str, Any]] = {
    "base": {"domain_perplexity": 12.0, "domain_accuracy": 0.5, "bytes": 270_000_000, "domain_text": "aa"},
    "train": {"domain_perplexity": 9.0, "domain_accuracy": 0.8, "bytes": 270_000_000, "domain_text": "aa"},
    "quantize": {"domain_perplexity": 9.5, "domain_accuracy": 0.76, "bytes": 79_000_000, "domain_text": "bb"},
}


def result(metric: str, text: str, subject: str) -> GateResult:
    (found,) = check([parse_gate(metric, text)], subject, SCORES)
    return found


@pytest.mark.parametrize(
    ("metric", "text", "subject", "bound", "ok"),
    [
        ("domain_perplexity", "<= 9", "train", 9.0, True),
        ("domain_perplexity", "< 9", "train", 9.0, False),
        ("domain_perplexity", ">= 9.0", "train", 9.0, True),
        ("domain_perplexity", "> 9", "train", 9.0, False),
        ("domain_perplexity", "<= 0.75 of base", "train", 9.0, True),
        ("domain_perplexity", "<=.7 of base", "train", 8.4, False),
        ("domain_perplexity", "<= 75% of base", "train", 9.0, True),
        ("domain_perplexity", "<= 0.75 of previous", "train", 9.0, True),
        ("domain_accuracy", ">= 70 %", "quantize", 0.7, True),
        ("domain_accuracy", ">= 0.9 of train", "quantize", 0.72, True),
        ("domain_accuracy", ">= 0.99 of previous", "quantize", 0.792, False),
        ("bytes", "<= 80 MB", "quantize", 80e6, True),
        ("bytes", "<= 75 MiB", "quantize", 78_643_200, False),
        ("bytes", "<= 0.08 GB", "quantize", 80e6, True),
        ("bytes", "<= 80_000_000", "quantize", 80e6, True),
        ("bytes", "<= 8e7", "quantize", 80e6, True),
        ("bytes", "<= 30 % of base", "quantize", 81e6, True),
    ],
)
def test_verdicts(metric: str, text: str, subject: str, bound: float, ok: bool) -> None:
    found = result(metric, text, subject)
    assert found.bound == pytest.approx(bound)
    assert found.value == SCORES[subject][metric]
    assert found.ok is ok
    assert (" is not " in found.sentence) is not ok
    assert f"{metric} of {subject}: " in found.sentence


@pytest.mark.parametrize(
    ("metric", "text", "subject", "words"),
    [
        ("general_perplexity", "<= 20", "train", "general_perplexity of train was not measured"),
        ("domain_perplexity", "<= 20", "missing", "domain_perplexity of missing was not measured"),
        ("domain_perplexity", "<= 1 of missing", "train", "of missing was not measured"),
        ("domain_perplexity", "<= 1 of previous", "base", "of a model before was not measured"),
        ("domain_perplexity", "<= 2 of train", "quantize", "different text"),
    ],
)
def test_what_cannot_be_compared_fails(metric: str, text: str, subject: str, words: str) -> None:
    found = result(metric, text, subject)
    assert not found.ok
    assert found.bound is None
    assert words in found.sentence


@pytest.mark.parametrize(
    ("metric", "text", "words"),
    [
        ("domain_perplexty", "<= 9", "did you mean 'domain_perplexity'?"),
        ("zzz", "<= 9", "no score is called 'zzz'; expected one of"),
        ("bytes", "80 MB", "found '80 MB'; expected for example"),
        ("bytes", "== 80 MB", "expected for example"),
        ("bytes", "<= 80 XB", "unit 'XB'"),
        ("bytes", "<= 80 %", "unit '%'"),
        ("bytes", "<= 80 MB of base", "unit 'MB'"),
        ("domain_perplexity", "<= 9 MB", "unit 'MB'"),
        ("domain_accuracy", ">= 80 M", "unit 'M'"),
        ("domain_accuracy", ">= 0.9 of", "expected for example"),
        ("domain_accuracy", "0.9", "expected for example"),
        ("domain_accuracy", "", "expected for example"),
    ],
)
def test_mistakes_in_a_gate(metric: str, text: str, words: str) -> None:
    with pytest.raises(LlmtuneError) as caught:
        parse_gate(metric, text)
    assert words in caught.value.what


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_takes_a_plain_number_and_a_share(metric: str) -> None:
    assert parse_gate(metric, "<= 1_5e-2").number == 0.15
    gate = parse_gate(metric, "<= 0.5 of previous")
    assert (gate.of, gate.previous, gate.number) == (None, True, 0.5)
    assert parse_gate(metric, "<= 0.5 of train").of == "train"


@pytest.mark.parametrize(
    ("base", "value", "ok"), [(0.2, 0.26, True), (0.2, 0.25, False), (-0.1, -0.12, False), (0, 0, True)]
)
def test_above_chance_against_another_model(base: float, value: float, ok: bool) -> None:
    """1.3 times what is below chance is no less than guessing."""
    scores = {"base": {"knowledge_above_chance": base}, "train": {"knowledge_above_chance": value}}
    (found,) = check([parse_gate("knowledge_above_chance", ">= 1.3 of base")], "train", scores)
    assert found.ok is ok
    assert parse_gate("knowledge_above_chance", ">= 20 %").number == 0.2
    with pytest.raises(LlmtuneError, match="an accuracy is a share"):
        parse_gate("knowledge_above_chance", ">= 20")


def test_an_accuracy_is_a_share() -> None:
    assert parse_gate("domain_accuracy", ">= 90 %").number == 0.9
    with pytest.raises(LlmtuneError, match="an accuracy is a share"):
        parse_gate("domain_accuracy", ">= 90")


def test_perplexities_of_other_tokens_are_those_of_one_text() -> None:
    """A byte that costs half as much has the square root of the perplexity, whatever the tokens."""
    base = {"domain_perplexity": 100.0, "domain_bits_per_byte": 2.0, "domain_tokens": 50, "domain_text": "aa"}
    trimmed = {"domain_perplexity": 4.0, "domain_bits_per_byte": 1.0, "domain_tokens": 90, "domain_text": "aa"}
    tuned = {"domain_perplexity": 8.0, "domain_bits_per_byte": 1.5, "domain_tokens": 90, "domain_text": "aa"}
    scores = {"base": base, "trimmed": trimmed, "tuned": tuned}
    texts = ("<= 0.09 of base", "<= 0.11 of base", "<= 9", "<= 11")
    found = check([parse_gate("domain_perplexity", text) for text in texts], "trimmed", scores)
    assert [(one.ok, round(float(one.value or 0), 6)) for one in found] == [
        (False, 10),
        (True, 10),
        (False, 10),
        (True, 10),
    ]
    assert all("(in tokens of base)" in one.sentence for one in found)
    (one,) = check([parse_gate("domain_perplexity", "<= 3.2 of trimmed")], "tuned", scores)  # 31.6 of 10, not 8 of 4
    assert (one.ok, round(float(one.bound or 0), 6)) == (True, 32)
    assert "(in tokens" not in check([parse_gate("domain_perplexity", "<= 100")], "base", scores)[0].sentence


@pytest.mark.parametrize("base", [{}, {"domain_perplexity": 50.0, "domain_text": "other"}])
def test_where_the_first_model_read_nothing_of_it_the_next_is_the_measure(base: dict[str, Any]) -> None:
    train = {"domain_perplexity": 100.0, "domain_bits_per_byte": 2.0, "domain_tokens": 50, "domain_text": "aa"}
    trimmed = {"domain_perplexity": 4.0, "domain_bits_per_byte": 1.0, "domain_tokens": 90, "domain_text": "aa"}
    scores = {"base": base, "train": train, "trimmed": trimmed}
    (one,) = check([parse_gate("domain_perplexity", "<= 0.09 of train")], "trimmed", scores)
    assert (one.ok, round(float(one.value or 0), 6)) == (False, 10)
    assert "(in tokens of train)" in one.sentence
    assert "in tokens of train" in Scorecard(scores).note
    assert Scorecard(scores).rows()[2][1][0].previous == "0.10 ×"
