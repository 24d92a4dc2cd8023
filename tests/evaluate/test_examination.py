"""Knowledge questions put to tiny models: the choices, the scores, and what is kept and shown of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtune.artifacts import Artifact
from llmtune.errors import Stopped
from llmtune.evaluate.examination import choose, knowledge_scores, knowledge_section
from llmtune.evaluate.knowledge import DESCRIPTION, NAME, KnowledgeQuestion, knowledge_questions
from llmtune.evaluate.scores import evaluate_model
from llmtune.evaluate.settings import EvaluateSettings
from llmtune.files import read_json, write_json
from llmtune.models.load import load_model, load_tokenizer
from llmtune.monitor import Monitor
from llmtune.section import read_section
from llmtune.stages.evaluate import EvaluateStage
from llmtune.stages.stage import Context
from tests.evaluate.conftest import defining, documents, write_corpus
from tests.evaluate.test_likelihood import naive
from tests.tiny import tiny_checkpoint, tiny_model, tiny_tokenizer

ONLY: dict[str, Any] = {"tokens": 0, "general": None, "questions": 0, "speed": False, "knowledge": 12}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("knowledge"), documents(2), train=defining(4))


def test_the_choice_is_what_makes_name_and_description_likeliest_to_belong_together(checkpoint: Path) -> None:
    """Against each whole text by itself, in the documents' order: log p(description | name) - log p(description)."""
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)

    def nats(before: str, text: str) -> float:
        return naive(model, tokenizer(before + text)["input_ids"], len(tokenizer(before)["input_ids"]))

    questions = knowledge_questions(defining(3), 8)
    expected = []
    for one in questions:
        named = one.asks == NAME
        pairs = [(choice, one.given) if named else (one.given, choice) for choice in one.choices]
        apart = [nats(f"{one.title}\n\n{name}:", f" {text}") - nats(f"{one.title}\n\n", text) for name, text in pairs]
        expected.append(apart.index(min(apart)))
    assert {one.asks for one in questions} == {NAME, DESCRIPTION}
    assert choose(questions, model, tokenizer, Monitor()) == expected


def question(asks: str, answer: int, structure: str = "table") -> KnowledgeQuestion:
    return KnowledgeQuestion(asks, f"given {answer}", ("a", "b", "c", "d"), answer, "Title", structure, "toy/0")


ASKED = [question(NAME, 0), question(NAME, 1), question(DESCRIPTION, 2, "list"), question(NAME, 3, "list")]


def test_scores_by_hand() -> None:
    found = knowledge_scores(ASKED, [0, 1, 1, 0])
    text = found.pop("knowledge_questions_text")
    assert found == {
        "knowledge_questions": 4,
        "knowledge_right": "1100",
        "knowledge_accuracy": 0.5,
        "knowledge_accuracy_low": pytest.approx(0.15, abs=1e-3),  # Newcombe (1998): 2 of 4
        "knowledge_accuracy_high": pytest.approx(0.85, abs=1e-3),
        "knowledge_above_chance": 0.25,
        "knowledge_name_accuracy": pytest.approx(2 / 3),
        "knowledge_description_accuracy": 0.0,
    }
    assert text == knowledge_scores(ASKED, [3, 3, 3, 3])["knowledge_questions_text"]
    assert text != knowledge_scores([*ASKED[:3], question(NAME, 2, "list")], [0] * 4)["knowledge_questions_text"]
    assert knowledge_scores([], []) == {"knowledge_questions": 0}


def test_the_section_by_hand() -> None:
    section = knowledge_section(ASKED, [0, 1, 1, 0])
    assert "Of 4 knowledge questions" in section.summary
    assert "50.0%" in section.summary
    (table,) = section.tables
    assert table.rows == [
        ("description", "list", 1, "0.0%"),
        ("name", "list", 1, "0.0%"),
        ("name", "table", 2, "100.0%"),
    ]
    right, wrong = section.texts
    assert right.rows == [("Title: given 0", "a\nb\nc\nd", "a", "a"), ("Title: given 1", "a\nb\nc\nd", "b", "b")]
    assert wrong.rows[0] == ("Title: given 2", "a\nb\nc\nd", "c", "b")
    assert len(knowledge_section(ASKED, [0, 1, 2, 3]).texts) == 1


def test_the_stage_keeps_the_questions_and_shows_some(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    inputs = {
        "model": Artifact("checkpoint", checkpoint, "f" * 24, "toy", "toy", {}),
        "corpus": Artifact("corpus", corpus, "f" * 24, "toy", "toy", {}),
    }
    stage = EvaluateStage(settings=EvaluateSettings(**ONLY))
    found = stage.run(inputs, Context(output, tmp_path / "work", 0))
    asked = json.loads((output / "knowledge.json").read_text())
    assert len(asked) == found["knowledge_questions"] == 12
    right = "".join("1" if one["chosen"] == one["answer"] else "0" for one in asked)
    assert right == found["knowledge_right"]
    assert {one["document"] for one in asked} <= {one.id for one in defining(4)}
    section = read_section(output)
    assert section is not None
    assert sum(row[2] for row in section.tables[0].rows) == 12  # type: ignore[misc]


def test_the_questions_are_the_same_whatever_the_model_and_the_seed(corpus: Path, tmp_path: Path) -> None:
    found = []
    for number, family in enumerate(("llama", "gpt2")):
        model = tiny_checkpoint(tmp_path / family, family, vocab_size=300 + number)
        found.append(evaluate_model(model, EvaluateSettings(**ONLY), corpus, tmp_path / f"{family}-work", number))
    assert found[0]["knowledge_questions_text"] == found[1]["knowledge_questions_text"]
    assert found[0]["knowledge_questions"] == 12


def test_it_goes_on_after_a_kill(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    class StopsAfter(Monitor):
        left = 2

        def stop_requested(self) -> bool:
            self.left -= 1
            return self.left < 0

    settings = EvaluateSettings(**ONLY)
    whole = evaluate_model(checkpoint, settings, corpus, tmp_path / "whole", 0)
    with pytest.raises(Stopped):
        evaluate_model(checkpoint, settings, corpus, tmp_path / "work", 0, StopsAfter())
    (parts,) = (tmp_path / "work").iterdir()
    assert not (parts / "knowledge.json").exists()
    assert evaluate_model(checkpoint, settings, corpus, tmp_path / "work", 0) == whole
    assert read_json(parts / "asked.json") == read_json(next((tmp_path / "whole").iterdir()) / "asked.json")
    write_json(parts / "knowledge.json", {"knowledge_questions": 99})
    assert evaluate_model(checkpoint, settings, corpus, tmp_path / "work", 0)["knowledge_questions"] == 99


def test_time_bounds_the_questions_to_what_the_other_parts_leave() -> None:
    """5 minutes of 1.5e11 operations a second at 2 × 1e8 a token are 225,000 tokens."""
    alone, usual = EvaluateSettings(**ONLY), EvaluateSettings()
    assert alone.affordable_knowledge(10**8) == 225_000 // 145
    assert usual.affordable_knowledge(10**8) == (225_000 - 10_000 - 5_000 - 60 * 220) // 145
    large = 10**11  # 225 tokens, of which the others take no more than their 0.35, 0.15 and 0.2
    assert usual.affordable_knowledge(large) == (225 - 78 - 33 - 45) // 145 == 0
    assert usual.affordable_knowledge(10**10) == (2250 - 787 - 337 - 450) // 145 == 4


def test_a_corpus_that_defines_nothing(checkpoint: Path, tmp_path: Path) -> None:
    empty = write_corpus(tmp_path / "empty", documents(1), train=documents(3))
    assert evaluate_model(checkpoint, EvaluateSettings(**ONLY), empty, tmp_path / "work", 0)["knowledge_questions"] == 0


@pytest.mark.slow
def test_a_model_that_has_learnt_the_documents_knows_both_ways() -> None:
    """What it is for: the same questions before and after training on what they are about."""
    import torch

    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    taught = defining(5, pairs=8)
    questions = knowledge_questions(taught, 1000)

    def measured() -> dict[str, Any]:
        with torch.inference_mode():
            return knowledge_scores(questions, choose(questions, model.eval(), tokenizer, Monitor()))

    before = measured()
    rows = [tokenizer(text)["input_ids"] for one in taught for text in str(one.text).split("\n\n")[1:]]
    labels = torch.tensor([row + [-100] * (max(map(len, rows)) - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=5e-3)
    for _ in range(60):
        model(input_ids=labels.clamp(min=0), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = measured()
    assert before["knowledge_accuracy"] < 0.4
    assert after["knowledge_accuracy"] > 0.6
    assert after["knowledge_name_accuracy"] > 0.7
    assert after["knowledge_description_accuracy"] > 0.4
