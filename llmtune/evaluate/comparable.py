"""Whether a figure of two models was measured on the same text; only then may the two be compared."""

from __future__ import annotations

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


def same_text(metric: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """False when both say what they were measured on, and it is not the same."""
    field = MEASURED_ON.get(metric)
    if field is None or field not in first or field not in second:
        return True
    return bool(first[field] == second[field])
