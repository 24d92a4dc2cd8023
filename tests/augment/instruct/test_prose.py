"""What of a paragraph stands alone, against cases written by hand; and the gate's reasons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.augment.instruct import gate
from llmtune.augment.instruct.draft import Draft, answer_of
from llmtune.augment.instruct.gate import fault
from llmtune.augment.instruct.outline import sections_of
from llmtune.augment.instruct.prose import goes_on, points_elsewhere, standing_alone


@pytest.mark.parametrize(
    ("paragraph", "alone"),
    [
        ("Locks wait. They end with their session.", "Locks wait. They end with their session."),
        ("Locks wait (see Section 13.3). They end.", "Locks wait. They end."),
        ("Locks wait. See Section 13.3 for more. Rows do not.", "Locks wait. Rows do not."),
        ("Locks wait. Table 9.1 lists the modes. They conflict.", "Locks wait."),  # what "they" are is gone
        ("Locks wait. The modes are as follows:", "Locks wait."),
        ("Locks wait. An example is shown below.", "Locks wait."),
        ("This holds for locks, too.", ""),
        ("However, locks wait.", ""),
        ("See the next chapter. Locks wait.", ""),  # its beginning is gone
        ("Each table has a lock. A table or page is locked.", "Each table has a lock. A table or page is locked."),
    ],
)
def test_what_stands_alone(paragraph: str, alone: str) -> None:
    assert standing_alone(paragraph, opens=True)[0] == alone


def test_a_sentence_that_leads_into_what_comes_along_stays() -> None:
    paragraph = "Locks wait. The following modes exist:"
    assert standing_alone(paragraph, opens=True, leads=True) == (paragraph, True)
    assert standing_alone(paragraph, opens=True) == ("Locks wait.", False)


sentences = st.sampled_from(
    ["Locks wait.", "They end.", "See Section 3.", "This is so.", "Rows stay (see `x`).", "It is shown below.",
     "The modes are:", "A row is read.", "In Chapter 4 there is more.", "Thus it ends."]
)  # fmt: skip


@given(st.lists(sentences, min_size=1, max_size=6), st.booleans())
def test_nothing_that_stands_alone_points_elsewhere(chosen: list[str], leads: bool) -> None:
    text, _ = standing_alone(" ".join(chosen), opens=True, leads=leads)
    if text:
        assert not goes_on(text)
        assert not points_elsewhere(text)
        assert "(see" not in text
        assert leads or not text.endswith(":")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("A lock keeps others from changing a row.", None),
        ("", gate.NOT_ALONE),
        ("A lock.", gate.SHORT),
        ("A lock keeps others from a row. " * 10, gate.LONG),
        ("https://example.org/locks https://example.org/rows", gate.LINKS),
        ("- Locks and more\n- Rows and more\n- Pages and more", gate.LINKS),
        ("What is a lock, what is a lock?", gate.REPEATS),
        ("A lock keeps others from changing (or reading", gate.CUT),
        ("A lock keeps others from changing `rows", gate.CUT),
    ],
)
def test_the_gate(answer: str, reason: str | None) -> None:
    assert fault(Draft("headings", "What is a lock?", answer, ""), 20, 200) == reason


def test_the_outline_of_a_page() -> None:
    text = (
        "# 4. Locks\n\nLocks wait.\nFor others.\n\n## Note\n\nA remark.\n\n## Modes\n\n`SHARE`\nAllows others to read "
        "the rows of it.\n\n| a | b |\n| --- | --- |\n| c | d |\n\n```\nLOCK t;\n\n# no heading\n```\n\n- one\n- two\n"
    )
    locks, note, modes = sections_of(text)[1:]
    assert (locks.headings, note.headings, modes.headings) == (("Locks",), ("Locks",), ("Locks", "Modes"))
    assert note.aside
    assert [block.text for block in locks.blocks] == ["Locks wait. For others."]
    assert [block.kind for block in modes.blocks] == ["definition", "table", "code", "list"]
    assert modes.blocks[0].terms == ("`SHARE`",)
    assert modes.blocks[2].text == "```\nLOCK t;\n\n# no heading\n```"


STORY = "A lock waits. Suppose so:\n\n```\nLOCK t;\n```"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A lock waits.\n\nIt ends.\n\n## More\n\nRows.", "A lock waits.\n\nIt ends."),
        ("Modes are:\n\n- one\n- two\n\nRows stay.", "Modes are:\n\n- one\n- two\n\nRows stay."),
        ("A lock waits. Modes are:\n\n- one\n\n    of two\n\n- two", "A lock waits."),  # a part of the list
        ("A lock waits. Modes are:\n\n- one, see Section 4\n- two", "A lock waits."),
        ("A lock waits. Suppose it does:\n\n```\nLOCK t;\n```\n\nThis is shown below.", "A lock waits."),
        (f"{STORY}\n\nIt ends.", f"{STORY}\n\nIt ends."),
        ("A lock waits.\n\n" + "A row is read and read again. " * 9, "A lock waits."),  # longer than 200 characters
        ("Released: 2024-05-09\n\nA lock waits.", ""),  # a label
    ],
)  # fmt: skip
def test_an_answer_is_whole_paragraphs_and_what_they_lead_into(text: str, answer: str) -> None:
    assert answer_of(sections_of(f"# T\n\n{text}")[1].blocks, 200) == answer
