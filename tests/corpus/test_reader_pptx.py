"""PPTX: files written by python-pptx."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pptx
import pytest
from pptx.oxml import parse_xml
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


MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
MATH = """<a14:m xmlns:a14="http://schemas.microsoft.com/office/drawing/2010/main"
    xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"><m:oMathPara><m:oMath><m:f>
    <m:num><m:r><m:t>1</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath></m:oMathPara></a14:m>"""


def wrapped(element: Any, plain: Any = None) -> None:
    """Put an element of a slide into a choice, with what programs that do not know it are to show in its place."""
    alternate, choice = (
        element.makeelement(f"{{{MC}}}{name}", nsmap={"mc": MC}) for name in ("AlternateContent", "Choice")
    )
    element.getparent().replace(element, alternate)
    alternate.append(choice)
    choice.append(element)
    if plain is not None:
        fallback = element.makeelement(f"{{{MC}}}Fallback")
        fallback.append(plain)
        alternate.append(fallback)


def test_alternatives_and_equations(tmp_path: Path) -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[TITLE_AND_CONTENT])
    slide.shapes.title.text = "Locks"
    slide.shapes.title._element.append(parse_xml(f'<mc:x xmlns:mc="{MC}"><!-- a remark --></mc:x>'))
    body = slide.placeholders[1]
    body.text_frame.text = "Half: "
    body.text_frame.paragraphs[0]._p.append(parse_xml(MATH))
    plain = copy.deepcopy(body._element)
    for paragraph in plain.txBody.p_lst:  # a picture of the text, as PowerPoint leaves it
        for run in list(paragraph):
            paragraph.remove(run)
        paragraph.add_r().text = " "
    wrapped(slide.shapes.title._element)
    wrapped(body._element, plain)
    group = slide.shapes.add_group_shape()
    inner = group.shapes.add_textbox(Cm(1), Cm(12), Cm(8), Cm(2))
    inner.text_frame.text = "in a group"
    wrapped(inner._element, copy.deepcopy(inner._element))
    wrapped(group._element)
    notes = slide.notes_slide.notes_text_frame
    notes.text = "Not "
    notes.paragraphs[0]._p.append(parse_xml(MATH))
    wrapped(notes._txBody.getparent())
    deck.save(str(tmp_path / "a.pptx"))
    assert text_of(tmp_path / "a.pptx").split("\n\n") == ["## Locks", "Half: 1/2", "in a group", "Not 1/2"]


def test_a_number_that_two_shapes_have(tmp_path: Path) -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[TITLE_AND_CONTENT])
    slide.shapes.title.text = "Locks"
    slide.placeholders[1].text = "wait"
    slide.placeholders[1]._element.nvSpPr.cNvPr.id = slide.shapes.title.shape_id
    deck.save(str(tmp_path / "a.pptx"))
    assert text_of(tmp_path / "a.pptx") == "## Locks\n\nwait"


def test_ink(tmp_path: Path) -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[BLANK])
    slide.shapes.add_textbox(Cm(1), Cm(2), Cm(8), Cm(2)).text_frame.text = "typed"
    ink = parse_xml('<p:contentPart xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"/>')
    slide.shapes._spTree.append(ink)
    deck.save(str(tmp_path / "a.pptx"))
    assert text_of(tmp_path / "a.pptx") == "typed"


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_cannot_be_read(tmp_path: Path, spoil: Spoil, message: str) -> None:
    path = sample(tmp_path / "a.pptx")
    spoil(path)
    with pytest.raises(Unreadable, match=message):
        text_of(path)
