"""PPTX: files written by python-pptx."""

from __future__ import annotations

from pathlib import Path

import pptx
import pytest
from pptx.util import Cm

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.reader import RawDocument, Unreadable
from llmtune.corpus.settings import Source
from tests.corpus.office_files import SPOILT, Spoil

TITLE, TITLE_AND_CONTENT, BLANK = 0, 1, 6


def text_of(path: Path) -> str:
    [document] = reader_of("pptx").read(path, Source.model_validate({"path": path, "format": "pptx"}))
    assert isinstance(document, RawDocument)
    return document.text or ""


def sample(path: Path) -> Path:
    deck = pptx.Presentation()
    deck.core_properties.title = "PowerPoint Presentation"
    slide = deck.slides.add_slide(deck.slide_layouts[TITLE])
    slide.shapes.title.text = "Locks"
    slide.placeholders[1].text = "A talk"
    slide = deck.slides.add_slide(deck.slide_layouts[TITLE_AND_CONTENT])
    slide.shapes.title.text = "Why one\vwaits"
    frame = slide.placeholders[1].text_frame
    frame.text = "For a row"
    frame.add_paragraph().text = "or a table"
    frame.paragraphs[1].level = 1
    slide.notes_slide.notes_text_frame.text = "Ask who has seen one."
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    for text, left, top in (("third", 1, 9), ("second", 12, 2.1), ("first", 1, 2)):  # the last drawn stands first
        slide.shapes.add_textbox(Cm(left), Cm(top), Cm(8), Cm(2)).text_frame.text = text
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Cm(1), Cm(12), Cm(8), Cm(2)).text_frame.text = "in a group"
    table = slide.shapes.add_table(2, 2, Cm(1), Cm(15), Cm(9), Cm(3)).table
    for row, cells in zip(table.rows, [("mode", "weight"), ("share", "1|2")], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    deck.save(str(path))
    return path


def test_slides_in_order(tmp_path: Path) -> None:
    assert text_of(sample(tmp_path / "a.pptx")).split("\n\n") == [
        "## Locks",
        "A talk",
        "## Why one waits",
        "- For a row\n  - or a table",
        "Ask who has seen one.",
        "first",
        "second",
        "third",
        "in a group",
        "| mode | weight |\n| --- | --- |\n| share | 1\\|2 |",
    ]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_cannot_be_read(tmp_path: Path, spoil: Spoil, message: str) -> None:
    path = sample(tmp_path / "a.pptx")
    spoil(path)
    with pytest.raises(Unreadable, match=message):
        text_of(path)
