"""What each rule makes of a manual, against pairs written by hand; and what it must not make."""

from __future__ import annotations

import pytest

from llmtune.augment.instruct import gate
from llmtune.augment.instruct.build import made_of
from llmtune.augment.instruct.settings import InstructSettings
from tests.augment.corpora import document
from tests.augment.instruct.manual import SPANISH, TUNING, VACUUM


def pairs(text: str, **settings: object) -> dict[str, str]:
    """Answer → question of the drafts that pass (how a question is worded is drawn by a hash)."""
    judged = made_of(document("a.md", text), InstructSettings.model_validate(settings))
    assert judged is not None
    return {one.draft.answer: one.draft.question for one in judged if one.reason is None}


def reasons(text: str, **settings: object) -> dict[str, str]:
    """Of those that do not: what they were made of, and why."""
    judged = made_of(document("a.md", text), InstructSettings.model_validate(settings)) or ()
    return {one.draft.said: one.reason for one in judged if one.reason}


def test_a_reference_page() -> None:
    found = pairs(VACUUM, min_answer=30)
    assert found.pop("```\nVACUUM [ FULL ] [ VERBOSE ] [ table ]\n```") == "What is the syntax of `VACUUM`?"
    reclaims = (
        "`VACUUM` reclaims the storage that dead rows occupy. Rows that are deleted stay in their table until it is"
    )
    assert found.pop(f"{reclaims} done.") == "What does `VACUUM` do?"
    full = found.pop(
        "`FULL` selects a full vacuum, which can reclaim more space but takes an exclusive lock on the table."
    )
    table = found.pop("The name of a specific table to vacuum. Defaults to all tables of the current database.")
    assert "the parameter `FULL`" in full
    assert "the parameter `table`" in table
    assert "in `VACUUM`" in full
    assert "in `VACUUM`" in table
    command = "```sql\nVACUUM (VERBOSE) onek;\n```\n\nThis command prints a line for each index of the table."
    assert "clean a single table and say what is done" in found.pop(command)
    assert found == {}
    told = reasons(VACUUM, min_answer=30)
    assert told["To do it again:"] == gate.NOT_ALONE
    assert (
        told["See the description of the option of the same name in the reference page of ANALYZE."] == gate.NOT_ALONE
    )


def test_a_guide() -> None:
    found = pairs(TUNING, subject="MyBase")
    assert found["Most slow queries read a whole table, because no index fits or its statistics are old."] in (
        "In MyBase, why is my query slow?",
        "Why is my query slow in MyBase?",
    )
    index = (
        "An index makes reading faster and writing slower. Create only those that your queries use:\n\n"
        "- one on each foreign key\n- one on what is sorted by most often"
    )
    assert "creating an index" in found[index]
    shared = "Shared buffers are the pages of tables that all sessions keep in memory together."
    assert "hat are shared buffers" in found[shared]
    assert "the setting `work_mem`" in found["`work_mem` sets the memory that a sort may use before it goes to disk."]
    explained = "This sets the limit for the current session only, and leaves the others as they are."
    assert found[explained] == "What does this do in MyBase?\n\n```sql\nSET work_mem = '64MB';\n```"
    assert "This chapter" not in str(found)
    assert reasons(TUNING)["This chapter tells of everything else."] == gate.NOT_ALONE
    assert all("MyBase" in question for question in found.values())


def test_without_a_subject_the_title_says_what_it_is_about() -> None:
    found = pairs(TUNING)
    of_headings = [question for answer, question in found.items() if "index makes" in answer or "buffers" in answer]
    assert len(of_headings) == 2
    assert all("in the context of tuning the server" in question for question in of_headings)


@pytest.mark.parametrize("rule", ["headings", "definitions", "code"])
def test_a_rule_alone(rule: str) -> None:
    judged = made_of(document("a.md", VACUUM + TUNING), InstructSettings.model_validate({"rules": [rule]}))
    assert judged
    assert {one.draft.rule for one in judged} == {rule}


def test_another_language_is_not_asked() -> None:
    assert made_of(document("a.md", SPANISH), InstructSettings()) is None
    assert made_of(document("a.md", TUNING), InstructSettings()) is not None


@pytest.mark.parametrize(
    ("heading", "asked"),
    [
        ("## Create a table", ("How do I create a table?", "How can I create a table?")),
        ("## How to drop an index", ("How do I drop an index?",)),
        ("## When to vacuum", ("Explain when to vacuum.",)),
        ("## Is it safe to stop it?", ("Is it safe to stop it?",)),
        ("## `pg_dump(database)`", ("What does `pg_dump` do?", "Explain what `pg_dump` does.")),
        ("## 3.2. GiST Trees", tuple(one.format("GiST Trees") for one in (
            "Explain {}.", "What should I know about {}?", "Give me an overview of {}.", "Tell me about {}."))),
    ],
)  # fmt: skip
def test_a_heading_is_asked_for_by_what_kind_of_words_it_is(heading: str, asked: tuple[str, ...]) -> None:
    text = f"# T\n\nA.\n\n{heading}\n\nRows are written to the end of their page, and pages to the end of the file."
    (question,) = pairs(text, rules=["headings"], subject="rows").values()
    plain = question.removeprefix("In rows, ").replace(" in rows", "")
    assert plain.casefold() in {one.casefold() for one in asked}


@pytest.mark.parametrize(
    ("lead", "wanted"),
    [
        ("For example, to rename an existing column:", "rename an existing column"),
        ("To find your largest tables, run the following query:", "find my largest tables"),
        ("You can also list all roles like this:", "list all roles"),
        ("Create a table with two columns:", "create a table with two columns"),
        ("This example shows how to lock a single row:", "lock a single row"),
    ],
)
def test_what_a_sentence_leads_into(lead: str, wanted: str) -> None:
    code = "```sql\nSELECT 1 FROM a, b WHERE a.c = b.d;\n```"
    (question,) = pairs(f"# Rows\n\n{lead}\n\n{code}", rules=["code"], subject="rows").values()
    assert f"{wanted}" in question


@pytest.mark.parametrize(
    "lead", ["To undo this:", "To do the same in another session:", "The output is:", "To sort it again, use:"]
)
def test_what_points_elsewhere_is_not_asked(lead: str) -> None:
    assert pairs(f"# Rows\n\n{lead}\n\n```\nSELECT 1 FROM a, b WHERE a.c = b.d;\n```", rules=["code"]) == {}
