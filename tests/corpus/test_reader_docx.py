"""DOCX: files written by python-docx, and XML put into them by hand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.reader import RawDocument, Unreadable
from llmtune.corpus.settings import Source
from tests.corpus.office_files import SPOILT, Spoil, lie


def text_of(path: Path) -> str:
    [document] = reader_of("docx").read(path, Source.model_validate({"path": path, "format": "docx"}))
    assert isinstance(document, RawDocument)
    return document.text or ""


def sample(path: Path) -> Path:
    document = docx.Document()
    document.core_properties.title = "Locks"
    document.add_heading("Waiting", 1)
    document.add_paragraph("A backend waits for a lock.").add_run(" Not for ever.").bold = True
    document.add_paragraph("First", "List Bullet")
    document.add_paragraph("Second", "List Bullet")
    document.add_paragraph("Stop", "List Number")
    document.add_paragraph("Start", "List Number")
    document.add_heading("Code", 2)
    document.styles.add_style("Source Code", WD_STYLE_TYPE.PARAGRAPH)
    document.add_paragraph("def f(x):", "Source Code")
    document.add_paragraph("    return x", "Source Code")
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, [("mode", "weight"), ("share", "1|2")], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.save(str(path))
    return path


def test_structure(tmp_path: Path) -> None:
    assert text_of(sample(tmp_path / "a.docx")).split("\n\n") == [
        "# Locks",
        "# Waiting",
        "A backend waits for a lock. Not for ever.",
        "- First\n- Second",
        "1. Stop\n2. Start",
        "## Code",
        "```\ndef f(x):\n    return x\n```",
        "| mode | weight |\n| --- | --- |\n| share | 1\\|2 |",
    ]


def test_revisions_comments_and_contents(tmp_path: Path) -> None:
    document = docx.Document()
    document.core_properties.title = ""
    document.styles.add_style("toc 1", WD_STYLE_TYPE.PARAGRAPH)
    document.add_paragraph("Waiting\t17", "toc 1")
    paragraph = document.add_paragraph("The server ")
    for kind, inner in (("del", "<w:r><w:delText>sleeps</w:delText></w:r>"), ("ins", "<w:r><w:t>waits</w:t></w:r>")):
        paragraph._p.append(parse_xml(f"<w:{kind} {nsdecls('w')} w:id='1' w:author='a'>{inner}</w:{kind}>"))
    document.add_comment(paragraph.add_run(" here."), text="Is that so?", author="b", initials="b")
    document.sections[0].footer.paragraphs[0].text = "Page 17"
    document.save(str(tmp_path / "a.docx"))
    assert text_of(tmp_path / "a.docx") == "The server waits here."


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_cannot_be_read(tmp_path: Path, spoil: Spoil, message: str) -> None:
    path = sample(tmp_path / "a.docx")
    spoil(path)
    with pytest.raises(Unreadable, match=message):
        text_of(path)


def test_a_size_that_is_not_true_takes_no_memory(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.docx")
    lie(path)
    tracemalloc.start()
    with pytest.raises(Unreadable, match="damaged file"):
        text_of(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
