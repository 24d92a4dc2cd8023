"""How a document writes its words, against a search of its text for each; and what a long one costs."""

from __future__ import annotations

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.augment.instruct.build import made_of
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.augment.instruct.wording import wording_of
from llmtune.augment.instruct.words import in_a_sentence, is_name, is_proper
from tests.augment.corpora import document

WORDS = ["Lock", "lock", "LOCK", "Multi-Version", "multi-version", "`LOCK`", "`A B`", "MAX_LOCK", "Ärger", "A"]
texts = st.lists(st.sampled_from([*WORDS, " ", " ", " ", "\n", ",", ".", "-", "_", "`", "s"]), max_size=30).map("".join)


@given(texts, st.sampled_from(["Lock", "Multi-Version", "Version", "A"]))
def test_words_are_found_as_a_search_finds_them(text: str, word: str) -> None:
    wording = wording_of(text)
    small = re.search(rf"(?<![\w`.-]){word.lower()}(?![\w`-])", text)
    assert (word.lower() in wording.small) == (small is not None)
    assert is_proper(word, wording) == (re.search(rf"[a-z,;] {word}\b", text) is not None)
    alone = len(re.findall(r"(?<![A-Z])LOCK(?![A-Z])", text))
    assert in_a_sentence("LOCK", wording) == ("LOCK" if alone > 1 else "lock")
    assert is_name("LOCK", wording) == ("`LOCK`" in text)


SECTION = (
    "## Shared Buffer Pool {} Zone\n\nShared buffers are the pages of tables that all sessions keep in memory, as "
    "of number {}. Rows are read and the rest is written to the disk for later use by others of the same kind."
)
CODE = "\n\n```\nSELECT 1 FROM a;\n```\n\n"


@pytest.mark.parametrize(
    "text",
    [
        "\n\n".join(["# Manual", *(SECTION.format(f"{chr(65 + number % 26)}x", number) for number in range(2000))]),
        "# T\n\nTo do it " + "like this " * 8000 + ":" + CODE,
    ],
    ids=["many headings", "a sentence without end"],
)
def test_a_long_document(text: str) -> None:
    """A search of the whole text for each heading, or of the sentence for each of its ends, takes 24 seconds and
    more; here it is half a second."""
    began = process_time()
    assert made_of(document("a.md", text), InstructSettings()) is not None
    assert process_time() - began < 8
