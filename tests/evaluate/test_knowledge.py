"""Knowledge questions: what is asked, what is never asked, and that it does not depend on what it must not."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.corpus.store import Document, write_split
from llmtune.evaluate import knowledge as knowledge_module
from llmtune.evaluate.knowledge import DESCRIPTION, NAME, KnowledgeQuestion, knowledge_questions, training_documents
from tests.evaluate.conftest import WORDS, defining, document

FORMS = ("{}\n{}", "- {}: {}", "## {}\n\n{}")


def right(question: KnowledgeQuestion) -> tuple[str, str]:
    """(name, description) that belong together, as the question has it."""
    pair = (question.choices[question.answer], question.given)
    return pair if question.asks == NAME else pair[::-1]


def test_every_answer_is_what_the_document_says() -> None:
    documents = defining(6)
    questions = knowledge_questions(documents, 1000)
    text = {one.id: one.text or "" for one in documents}
    assert len(questions) > 30
    for one in questions:
        name, description = right(one)
        assert f"{name}\n{description}" in text[one.document]
        assert all(choice in text[one.document] for choice in one.choices)
        assert len(set(one.choices)) == 4
        assert one.title == f"Manual {one.document.rsplit('/')[-1]}"
    assert {one.asks for one in questions} == {NAME, DESCRIPTION}
    assert set(Counter(one.answer for one in questions)) == {0, 1, 2, 3}


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 60))
def test_the_order_of_the_documents_has_no_part_in_it_and_fewer_are_the_beginning(order: list[int], most: int) -> None:
    documents = defining(6)
    documents[1] = document((documents[0].text or "") + "\n\nomega_mem\nHolds rows.", "toy/1")  # says the same
    whole = knowledge_questions(documents, 1000)
    assert knowledge_questions([documents[place] for place in order], most) == whole[:most]


def test_many_documents_rather_than_much_of_one() -> None:
    questions = knowledge_questions(defining(6, pairs=40), 1000)
    assert len({one.document for one in questions[:6]}) == 6
    assert max(Counter(one.document for one in questions).values()) == 12


@pytest.mark.parametrize("form", FORMS)
def test_every_structure_is_asked_of(form: str) -> None:
    questions = knowledge_questions(defining(1, form=form), 1000)
    assert len({right(one) for one in questions}) > 3


def asked_names(*pairs: tuple[str, str], asks: tuple[str, ...] = (NAME, DESCRIPTION)) -> set[str]:
    """The names that are asked of, of a list of these pairs and of three that are beyond reproach."""
    good = [("alpha_mem", f"{SAYS} seldom."), ("beta_mem", f"{SAYS} of old."), ("gamma_mem", f"{SAYS} at noon.")]
    text = "# A\n\n" + "\n\n".join(f"{name}\n{said}" for name, said in [*good, *pairs])
    return {right(one)[0] for one in knowledge_questions([document(text, "a")], 1000) if one.asks in asks}


SAYS = "Whether the path is taken when rows are few,"


@pytest.mark.parametrize(
    "pair",
    [
        ("delta_mem", f"{SAYS} as delta_mem says."),  # the name is in it
        ("delta_mem", f"{SAYS} deltas only."),  # a word of it is, and of no other choice
        ("alpha_mem", f"{SAYS} always."),  # twice in the list
        ("delta_mem", f"{SAYS} seldom."),
        ("delta_mem", f"{SAYS} seldom. Or not"),
        ("delta_mem", "Too short."),
    ],
)
def test_what_gives_itself_away_is_not_asked(pair: tuple[str, str]) -> None:
    assert asked_names(("delta_mem", f"{SAYS} always.")) == {"alpha_mem", "beta_mem", "gamma_mem", "delta_mem"}
    assert pair[0] not in asked_names(pair) - {"alpha_mem"}
    assert len(asked_names(pair)) in (0, 3)


@pytest.mark.parametrize("name", ["--delta", "DELTA", "Delta", "delta mem", "delta_mem_with_a_name_so_much_longer"])
def test_names_to_choose_from_are_of_like_form(name: str) -> None:
    pair = (name, f"{SAYS} always.")
    assert asked_names(pair, asks=(NAME,)) == set()
    assert name in asked_names(pair, asks=(DESCRIPTION,))


def test_a_description_that_contains_another_is_never_beside_it() -> None:
    text = "# A\n\n" + "\n\n".join(
        f"{name}_mem\n{SAYS} {end}"
        for name, end in zip(WORDS, ("so.", "so", "no.", "at noon.", "of old."), strict=False)
    )
    for one in knowledge_questions([document(text, "a")], 1000):
        of_name = (text.split(f"{name}\n")[-1].split("\n")[0] for name in one.choices)
        assert len({said.rstrip(".") for said in (of_name if one.asks == NAME else one.choices)}) == 4


def test_matching_words_is_no_better_than_guessing() -> None:
    """Whoever chooses what shares most words with what is given finds all four alike."""
    words = [word for word in WORDS if len(word) > 4]
    documents = []
    for number in range(8):
        source = random.Random(number)
        names = source.sample([f"{one}_{other}" for one in words for other in words if one != other], 12)
        told = (f"Holds {' '.join(source.sample(words, 4))} anyway." for _ in names)
        lines = "\n\n".join(f"{name}\n{text}" for name, text in zip(names, told, strict=True))
        documents.append(document(f"# Manual {number}\n\n{lines}", f"toy/{number}"))
    questions = knowledge_questions(documents, 1000)
    assert len(questions) > 10

    def shared(name: str, text: str) -> int:
        return sum(word.rstrip("s")[:4] in name for word in text.rstrip(".").split())

    for one in questions:
        of_name = one.asks == NAME
        counts = {shared(choice, one.given) if of_name else shared(one.given, choice) for choice in one.choices}
        assert len(counts) == 1


def test_what_many_lists_say_is_not_asked() -> None:
    boiler = "\n\nomega_mem\nKept for the sake of older programs, without any effect."
    documents = [document((one.text or "") + boiler, one.id) for one in defining(3)]
    assert all(right(one)[0] != "omega_mem" for one in knowledge_questions(documents, 1000))
    assert any(right(one)[0] == "omega_mem" for one in knowledge_questions(documents[:2], 1000))
    of_two = [one for one in knowledge_questions(documents[:2], 1000) if right(one)[0] == "omega_mem"]
    assert len({one.document for one in of_two}) == 1  # the same of one thing is asked of one list


def test_the_dotted_prefix_of_all_names_is_left_out() -> None:
    (plain,) = defining(1, pairs=4)
    (dotted,) = defining(1, pairs=4, form="os.path.{}\n{}")
    (inner,) = defining(1, pairs=4, form="{}.path\n{}")

    def names(of: Document) -> set[str]:
        return {right(one)[0] for one in knowledge_questions([of], 1000)}

    assert names(plain) == names(dotted) == {name.removesuffix(".path") for name in names(inner)} != names(inner)
    assert len(names(plain)) == 4


def test_only_originals_of_the_training_split_are_asked_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = defining(3)
    augmented = replace(two, origin="toy/0")
    talk = Document("talk", None, (), "toy", None, one.sha256, "g")
    write_split(tmp_path, "train", [one, augmented, talk])
    write_split(tmp_path, "test", [three])
    assert list(training_documents(tmp_path)) == [one]
    many = [document(f"text {number}", f"toy/{number}") for number in range(200)]
    write_split(tmp_path, "train", many)
    monkeypatch.setattr(knowledge_module, "DOCUMENTS", 50)
    some = list(training_documents(tmp_path))
    assert len(some) == 50
    assert max(one.sha256 for one in some) < min(one.sha256 for one in many if one not in some)
    write_split(tmp_path, "train", [*many, *(replace(one, id=f"{one.id}#again", origin=one.id) for one in many)])
    assert list(training_documents(tmp_path)) == some
