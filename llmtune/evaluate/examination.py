"""Puts knowledge questions to a model, closed book, and tells how it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llmtune.evaluate.intervals import accuracy_fields, wilson
from llmtune.evaluate.knowledge import DESCRIPTION, NAME, KnowledgeQuestion
from llmtune.evaluate.passages import text_fingerprint
from llmtune.evaluate.settings import CHOICES
from llmtune.monitor import Monitor
from llmtune.section import Section, Table, Texts

_SAMPLES = 6  # of the right and of the wrong answers, in the report


def prompts(question: KnowledgeQuestion) -> list[tuple[str, list[str]]]:
    """(context, continuations) to be scored. Names come first and descriptions after them, as in the documents: a model
    that has read "A is B" has not learnt to say A of B (Berglund et al. 2023, arXiv 2309.12288).

    Asked for a name: what is given after each of the names, so that nothing of the names themselves is scored (a noisy
    channel: Min et al. 2021, arXiv 2108.04106). Asked for a description: all four after the name, and without it."""
    title = question.title
    if question.asks == NAME:
        return [(f"{title}\n\n{choice}:", [f" {question.given}"]) for choice in question.choices]
    named = f"{title}\n\n{question.given}:", [f" {choice}" for choice in question.choices]
    return [named, (f"{title}\n\n", list(question.choices))]


def choose(questions: Sequence[KnowledgeQuestion], model: Any, tokenizer: Any, monitor: Monitor) -> list[int]:
    """Of each question the choice that makes name and description likeliest to belong together: the highest
    log p(description | name) - log p(description) (Holtzman et al. 2021, arXiv 2104.08315); the second is the same for
    all choices of a name."""
    from llmtune.evaluate.choices import branch_nats, branches_of, tokens_of
    from llmtune.evaluate.likelihood import context_limit

    limit = context_limit(model)
    asked = [branches_of(*prompt, tokenizer, limit) for question in questions for prompt in prompts(question)]
    order = sorted(range(len(asked)), key=lambda i: max(map(len, asked[i].ends)))  # like lengths: less padding
    with monitor.bar("knowledge questions", sum(map(tokens_of, asked)), "tokens") as bar:
        found = branch_nats([asked[i] for i in order], model, bar, monitor.safe_point)
    nats = iter(of_prompt for _, of_prompt in sorted(zip(order, found, strict=True)))
    chosen = []
    for question in questions:
        if question.asks == NAME:
            losses = [next(nats)[0] for _ in question.choices]
        else:
            losses = [named - alone for named, alone in zip(next(nats), next(nats), strict=True)]
        chosen.append(losses.index(min(losses)))
    return chosen


def knowledge_scores(questions: Sequence[KnowledgeQuestion], chosen: Sequence[int]) -> dict[str, Any]:
    """The fields of the scores, described in docs/evaluate.md."""
    right = _right(questions, chosen)
    scores: dict[str, Any] = {"knowledge_questions": len(right)}
    if not right:
        return scores
    scores |= accuracy_fields("knowledge", right)
    scores["knowledge_above_chance"] = scores["knowledge_accuracy"] - 1 / CHOICES
    for asks in (NAME, DESCRIPTION):
        if of_kind := [one for one, question in zip(right, questions, strict=True) if question.asks == asks]:
            scores[f"knowledge_{asks}_accuracy"] = sum(of_kind) / len(of_kind)
    asked = (part for one in questions for part in (one.title, one.given, *one.choices, str(one.answer)))
    return scores | {"knowledge_questions_text": text_fingerprint(asked)}


def knowledge_section(questions: Sequence[KnowledgeQuestion], chosen: Sequence[int]) -> Section:
    """Accuracy by what is asked for and by structure, and a few of the questions with the model's answers."""
    right = _right(questions, chosen)
    low, high = wilson(sum(right), len(right))
    rows: list[tuple[str | float, ...]] = []
    for asks, structure in sorted({(one.asks, one.structure) for one in questions}):
        those = [ok for ok, one in zip(right, questions, strict=True) if (one.asks, one.structure) == (asks, structure)]
        rows.append((asks, structure, len(those), f"{sum(those) / len(those):.1%}"))
    samples = []
    for wanted in (True, False):
        rows_of_kind = [
            (f"{one.title}: {one.given}", "\n".join(one.choices), one.choices[one.answer], one.choices[answer])
            for ok, one, answer in zip(right, questions, chosen, strict=True)
            if ok == wanted
        ][:_SAMPLES]
        columns = ("given", "choices", "right", "the model's choice")
        caption = f"questions that the model answered {'right' if wanted else 'wrong'}"
        samples.append(Texts(caption, columns, rows_of_kind))
    return Section(
        summary=f"Of {len(right):,} knowledge questions made from the training documents {sum(right) / len(right):.1%} "
        f"are answered right (95 % interval {low:.1%}–{high:.1%}; chance is {1 / CHOICES:.0%}).",
        tables=[Table("knowledge questions", ("asked for", "made from", "questions", "right"), rows)],
        texts=[one for one in samples if one.rows],
    )


def as_records(questions: Sequence[KnowledgeQuestion], chosen: Sequence[int]) -> list[dict[str, Any]]:
    """What is kept beside the scores: each question with the model's choice, as JSON values."""
    return [asdict(one) | {"chosen": answer} for one, answer in zip(questions, chosen, strict=True)]


def from_records(records: Sequence[dict[str, Any]]) -> tuple[list[KnowledgeQuestion], list[int]]:
    """Questions and choices again."""
    chosen = [record["chosen"] for record in records]
    fields = ({name: value for name, value in record.items() if name != "chosen"} for record in records)
    return [KnowledgeQuestion(**one | {"choices": tuple(one["choices"])}) for one in fields], chosen


def _right(questions: Sequence[KnowledgeQuestion], chosen: Sequence[int]) -> list[bool]:
    return [answer == one.answer for one, answer in zip(questions, chosen, strict=True)]
