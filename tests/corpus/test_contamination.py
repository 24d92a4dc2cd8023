"""Evaluation texts are found in documents exactly where a search for the same words in a row finds them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.corpus.contamination import SHORTEST, EvaluationTexts
from llmtune.corpus.shingles import words_of
from llmtune.errors import LlmtuneError
from llmtune.machine import Machine
from llmtune.stages.corpus import CorpusStage

from .conftest import Build, random_text

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=14)


@settings(deadline=None, max_examples=200)
@given(evaluation=WORDS, document=st.lists(WORDS, min_size=1, max_size=4), width=st.integers(SHORTEST, 9))
def test_hits_are_those_of_a_plain_search(evaluation: list[str], document: list[list[str]], width: int) -> None:
    text = "\n\n".join(" ".join(paragraph) for paragraph in document)
    texts = EvaluationTexts([("one", " ".join(evaluation), True)], width)
    need = min(width, len(evaluation))
    said = f" {' '.join(words_of(text))} "
    runs = [" ".join(evaluation[at : at + need]) for at in range(len(evaluation) - need + 1)]
    expected = len(evaluation) >= SHORTEST and any(f" {run} " in said for run in runs)
    hits = texts.hits(text)
    assert bool(hits) == expected
    assert all(hit.words in runs for hit in hits)
    left = texts.cut(text)
    assert not texts.hits(left)
    assert left == text if not expected else len(words_of(left)) < len(words_of(text))


def test_case_punctuation_and_line_ends_do_not_hide_a_text() -> None:
    texts = EvaluationTexts(
        [("quiz#1", "Which command reclaims storage occupied by dead tuples in a table?", True)], 13
    )
    document = "Intro.\n\nQ: “WHICH command   reclaims\nstorage -- occupied by dead tuples, in a table”\n\nThe end."
    (hit,) = texts.hits(document)
    assert hit.text == "quiz#1"
    assert hit.words == "which command reclaims storage occupied by dead tuples in a table"
    assert texts.cut(document) == "Intro.\n\nThe end."
    assert not texts.hits("Which command reclaims storage? Occupied by dead tuples.")


def test_each_text_is_told_once_and_with_its_own_name() -> None:
    draw = random.Random(5)
    passages = [random_text(60, draw) for _ in range(50)]
    texts = EvaluationTexts([(f"set#{number}", passage, True) for number, passage in enumerate(passages)], 13)
    document = f"{random_text(200, draw)} {passages[7]} {random_text(50, draw)} {passages[31]} {passages[7]}"
    assert [hit.text for hit in texts.hits(document)] == ["set#7", "set#31"]
    assert texts.hits(random_text(2000, draw)) == []


def test_what_several_evaluation_texts_have_is_told_of_each() -> None:
    question = random_text(30, random.Random(8))
    texts = EvaluationTexts(
        [("a#1", question, True), ("b#1", "Which? " + question, True), ("b#2", "x " * 20, True)], 13
    )
    assert [hit.text for hit in texts.hits(f"Begin. {question} End.")] == ["a#1", "b#1"]


@pytest.mark.parametrize("text", ["", "Yes.", "the autovacuum daemon", "!!! ---"])
def test_texts_that_say_too_little_are_passed_over(text: str) -> None:
    texts = EvaluationTexts([("short", text, True)], 13)
    assert texts.hits(f"Here stands: {text} {text}, and more that was written by hand.") == []


def test_a_heading_of_an_evaluation_file_is_no_text_of_its_own() -> None:
    page = "# What is new in this release\n\n" + random_text(40, random.Random(1))
    heading = "What is new in this release? Much."
    assert EvaluationTexts([("exam.md", page, False)], 13).hits(heading) == []
    assert EvaluationTexts([("exam.jsonl#1", page, True)], 13).hits(heading)
    assert EvaluationTexts([("short.txt", "What is new in this release", False)], 13).hits(heading)


def test_chinese_counts_by_character() -> None:
    texts = EvaluationTexts([("zh", "数据库系统的事务隔离级别有哪几种", True)], 13)
    assert [hit.text for hit in texts.hits("问:数据库系统的事务隔离级别有哪几种?答:四种。")] == ["zh"]
    assert texts.hits("数据库系统有事务。") == []
    # Thirteen words are 26 characters, and an answer of six is passed over as one of three words is.
    page = "パッケージをインストールすることができますか。はい、できます。インストールは簡単です。"
    question = "どのコマンドでパッケージをインストールすることができますか"
    short = EvaluationTexts([("answer", "インストール", True), ("other", question, True)], 13)
    assert short.hits(page) == []
    assert [hit.text for hit in short.hits(f"問い：{question}。")] == ["other"]


QUIZ = {
    "question": "Which background process removes dead row versions and keeps the visibility map up to date for you?",
    "choices": ["the autovacuum launcher", "the checkpointer"],
    "answer": "the autovacuum launcher",
}
LEAK = f"## Quiz\n\n{QUIZ['question']} It is the autovacuum launcher.\n\n"


@pytest.fixture
def leaky(folder: Path) -> Path:
    """`folder` with a page that holds a question of quiz.jsonl, which stands beside it."""
    page = folder / "03.txt"
    page.write_text(LEAK + page.read_text())
    (folder.parent / "quiz.jsonl").write_text(f'{{"question": "Short?"}}\n{json.dumps(QUIZ)}\n')
    return folder


@pytest.mark.parametrize("action", ["drop", "cut", "report"])
def test_a_corpus_without_the_evaluation(build: Build, leaky: Path, action: str) -> None:
    built = build([{"path": leaky}], decontaminate={"against": [leaky.parent / "quiz.jsonl"], "action": action})
    found = [json.loads(line) for line in (built.folder / "contaminated.jsonl").read_text().splitlines()]
    assert [(one["document"], one["evaluation_text"]) for one in found] == [("texts/03.txt", "quiz/quiz.jsonl#2")]
    assert found[0]["words"] == "which background process removes dead row versions and keeps the visibility map up"
    card = json.loads((built.folder / "card.json").read_text())
    assert card["contamination"] == {"action": action, "documents": 1, "evaluation_texts": 1}
    texts = {document.id: document.text or "" for document in built.documents}
    assert len(texts) == (19 if action == "drop" else 20)
    assert any("visibility map" in text for text in texts.values()) == (action == "report")
    if action == "drop":
        assert card["dropped"] == {"evaluation text": 1}
        assert card["dropped_named"]["evaluation text"][0]["detail"] == "quiz/quiz.jsonl#2"
    if action == "cut":
        assert texts["texts/03.txt"] == (leaky / "03.txt").read_text().strip().replace(LEAK, "## Quiz\n\n")
    gone = len(LEAK) - len("## Quiz\n\n")
    changes = {document.id: document.changes for document in built.documents if document.changes}
    assert changes == ({"texts/03.txt": (("evaluation_text", gone),)} if action == "cut" else {})
    assert card["cleaned"] == ({"evaluation_text": {"documents": 1, "amount": gone}} if action == "cut" else {})


@pytest.mark.parametrize("kind", ["mojibake", "email"])
def test_the_clean_up_hides_no_evaluation_text(build: Build, leaky: Path, kind: str) -> None:
    question = {
        "mojibake": "Why doesn’t it say what it won’t say, and who isn’t told of it?",
        "email": "Why is mail to jane.doe@acme-werke.de sent in vain today, and by whom?",
    }[kind]
    told = question.encode().decode("cp1252") if kind == "mojibake" else question
    (leaky.parent / "quiz.jsonl").write_text(json.dumps({"question": told}) + "\n")
    page = leaky / "03.txt"
    page.write_text(page.read_text().replace(LEAK, question + "\n\n"))
    built = build([{"path": leaky}], decontaminate={"against": [leaky.parent / "quiz.jsonl"]})
    assert built.metrics["dropped"] == {"evaluation text": 1}


def test_without_samples_no_text_is_told(build: Build, leaky: Path) -> None:
    built = build([{"path": leaky}], samples=0, decontaminate={"against": [leaky.parent / "quiz.jsonl"]})
    assert "visibility" not in (built.folder / "contaminated.jsonl").read_text()


@pytest.mark.parametrize(("words", "left"), [(16, 19), (17, 20)])
def test_words_is_the_length_of_a_hit(build: Build, leaky: Path, words: int, left: int) -> None:
    page = leaky / "03.txt"
    page.write_text(page.read_text().replace("for you?", "for us."))  # 16 of the question's 17 words
    built = build([{"path": leaky}], decontaminate={"against": [leaky.parent / "quiz.jsonl"], "words": words})
    assert len(built.documents) == left


def test_evaluation_texts_that_cannot_be_read_are_an_error(build: Build, leaky: Path) -> None:
    (leaky.parent / "quiz.jsonl").write_text('{"question": "\n')
    with pytest.raises(LlmtuneError, match=r"cannot be read, so copies of it cannot be kept out: malformed record"):
        build([{"path": leaky}], decontaminate={"against": [leaky.parent / "quiz.jsonl"]})


def test_the_contents_of_the_evaluation_are_part_of_the_corpus(leaky: Path) -> None:
    quiz = leaky.parent / "quiz.jsonl"
    stage = CorpusStage.model_validate({"sources": [{"path": leaky}], "decontaminate": {"against": [quiz]}})
    before = stage.identity()
    assert str(leaky.parent) not in json.dumps(before)
    assert "quiz.jsonl" not in json.dumps(stage.described(before)["decontaminate"]["against"][0]["contents"])
    quiz.write_text(quiz.read_text() + "{}\n")
    assert stage.identity() != before
    quiz.unlink()
    machine = Machine(cores=1, memory=1 << 30, flags=frozenset(), accelerators=())
    assert "decontaminate" in stage.plan({}, machine).problems[0]
