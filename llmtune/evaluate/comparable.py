"""Whether figures of two models can be compared: measured on the same text, and in the same units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Figure of the scores → the field with the fingerprint of the text it was measured on.
MEASURED_ON = {
    "domain_perplexity": "domain_text",
    "domain_bits_per_byte": "domain_text",
    "domain_accuracy": "domain_questions_text",
    "knowledge_accuracy": "knowledge_questions_text",
    "knowledge_above_chance": "knowledge_questions_text",
    "knowledge_name_accuracy": "knowledge_questions_text",
    "knowledge_description_accuracy": "knowledge_questions_text",
    "general_perplexity": "general_text",
    "general_bits_per_byte": "general_text",
    "own_accuracy": "own_questions_text",
}

# Figure of a token → the fields with the number of tokens, and with what a byte costs.
PER_TOKEN = {
    "domain_perplexity": ("domain_tokens", "domain_bits_per_byte"),
    "general_perplexity": ("general_tokens", "general_bits_per_byte"),
}


def same_text(metric: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """False when both say what they were measured on, and it is not the same."""
    field = MEASURED_ON.get(metric)
    if field is None or field not in first or field not in second:
        return True
    return bool(first[field] == second[field])


def in_tokens_of(metric: str, scores: Mapping[str, Any], reference: Mapping[str, Any]) -> float | None:
    """A figure of a model as it compares with that of `reference`; None where it was not measured.

    A perplexity is one of tokens, and a model with another tokenizer cuts the same text into others, with another first
    one, which no model predicts. So what a byte costs is what compares: a model to which it costs r times as much as to
    the reference, whose perplexity is p, has p^r in tokens of the reference. Every other figure stays as it is."""
    value = scores.get(metric)
    if value is None or not other_tokens(metric, scores, reference):
        return value
    _, bits = PER_TOKEN[metric]
    try:
        return float(reference[metric] ** (scores[bits] / reference[bits]))
    except OverflowError:
        return math.inf


def what_compares(metric: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a model's scores that `same_text` and `in_tokens_of` need to compare others' figure with its."""
    fields = (metric, MEASURED_ON.get(metric), *PER_TOKEN.get(metric, ()))
    return {field: scores[field] for field in fields if field in scores}


def first_like(metric: str, scores: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The name of the first of the models, in the order of the run, that a figure of one of them compares with: it was
    measured on the same text. None where the figure was not measured."""
    alike = (name for name, row in rows.items() if row.get(metric) is not None and same_text(metric, scores, row))
    return next(alike, None) if scores.get(metric) is not None else None


def other_tokens(metric: str, scores: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """Whether a figure of tokens was measured on the same text in others."""
    tokens, bits = PER_TOKEN.get(metric, ("", ""))
    needed = all(row.get(field) for row in (scores, reference) for field in (metric, tokens, bits))
    return needed and scores[tokens] != reference[tokens] and same_text(metric, scores, reference)
