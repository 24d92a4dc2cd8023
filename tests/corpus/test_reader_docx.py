"""DOCX: files written by python-docx, and XML put into them by hand."""

from __future__ import annotations

import re
import tracemalloc
import zipfile
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


MATH = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
DRAWN = """<w:drawing><wp:inline><a:graphic><a:graphicData><wps:wsp><wps:txbx><w:txbxContent>
    <w:p><w:r><w:t>{}</w:t></w:r>{}</w:p></w:txbxContent></wps:txbx></wps:wsp></a:graphicData></a:graphic></wp:inline>
    </w:drawing>"""
OVAL = """<w:pict><v:oval><v:textbox><w:txbxContent><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:txbxContent></v:textbox>
    </v:oval></w:pict>"""


def run(inner: str) -> str:
    return f"<w:r>{inner}</w:r>"


def t(text: str) -> str:
    return run(f'<w:t xml:space="preserve">{text}</w:t>')


def alternate(choice: str, fallback: str | None = None) -> str:
    plain = "" if fallback is None else f"<mc:Fallback>{fallback}</mc:Fallback>"
    return run(f'<mc:AlternateContent><mc:Choice Requires="wps">{choice}</mc:Choice>{plain}</mc:AlternateContent>')


def paragraph(path: Path, inner: str, note: str = "", encoding: str = "utf-8") -> str:
    """What a file is read as whose only paragraph has this in it, prefixes of namespaces other than usual."""
    namespaces = (
        'xmlns:x="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:v="urn:schemas-microsoft-com:vml"'
        ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        ' xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
        ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
        ' xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
    )
    body = f"<w:document {namespaces}><w:body><w:p>{inner}</w:p></w:body></w:document>"
    notes = f"<w:footnotes {namespaces}><w:footnote w:id='2'><w:p>{note}</w:p></w:footnote></w:footnotes>"
    with zipfile.ZipFile(path, "w") as zipped:
        for name, xml in (("word/document.xml", body), ("word/footnotes.xml", notes)):
            xml = re.sub(r"(?<=[< /])w:", "x:", xml)
            zipped.writestr(name, f'<?xml version="1.0" encoding="{encoding}"?>{xml}'.encode(encoding))
    return text_of(path)


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        pytest.param(
            f"{t('Figure ')}<w:fldSimple w:instr='SEQ Figure'>{t('7')}</w:fldSimple>{t(': see ')}"
            f"<w:fldSimple w:instr='REF x'>{t('Storage')}</w:fldSimple>{t('.')}",
            "Figure 7: see Storage.",
            id="fields",
        ),
        pytest.param(
            f"<w:dir w:val='rtl'>{t('שלום')}</w:dir>{t(' and ')}<w:bdo w:val='rtl'>{t('عالم')}</w:bdo>",
            "שלום and عالم",
            id="direction",
        ),
        pytest.param(
            run(f"<w:ruby><w:rubyPr/><w:rt>{t('かんじ')}</w:rt><w:rubyBase>{t('漢字')}</w:rubyBase></w:ruby>")
            + t("。"),
            "漢字。",
            id="furigana",
        ),
        pytest.param(run("<w:t>a</w:t><w:cr/><w:t>b</w:t><w:ptab/><w:t>c</w:t>"), "a\nb c", id="gaps"),
        pytest.param(
            run("<w:t>a</w:t><w:br w:type='page'/><w:t>b</w:t><w:br w:type='column'/><w:t>c</w:t>"),
            "a\nb\nc",
            id="breaks of page and column",
        ),
        pytest.param(
            run(
                "<w:sym w:font='Symbol' w:char='f061'/><w:sym w:font='Wingdings' w:char='F0FC'/>"
                "<w:sym w:font='Arial' w:char='00a9'/><w:sym w:font='Segoe UI Symbol' w:char='2713'/>"
                "<w:sym w:font='Arial' w:char='F061'/><w:sym w:font='Arial' w:char='0001'/><w:sym w:font='Symbol'/>"
            ),
            "α✓©✓",
            id="symbols",
        ),
        pytest.param(alternate(DRAWN.format("box", "")), "box", id="box without a fallback"),
        pytest.param(t("a") + run(DRAWN.format("box", "")), "a\n\nbox", id="box of newer files"),
        pytest.param(alternate(DRAWN.format("box", ""), OVAL.format("box")), "box", id="box with a fallback"),
        pytest.param(alternate(DRAWN.format("box", ""), "<w:pict/>"), "box", id="fallback to a picture"),
        pytest.param(
            alternate("<w16:symEx/>".replace("w16", "wps"), "<w:t>☺</w:t>"), "☺", id="character of newer fonts"
        ),
        pytest.param(run(OVAL.format("box")), "box", id="round box"),
        pytest.param(
            alternate(DRAWN.format("outer", alternate(DRAWN.format("inner", ""), OVAL.format("inner")))),
            "outer\n\ninner",
            id="box in a box",
        ),
        pytest.param(
            f"{t('Mass: ')}<m:oMath {MATH}><m:r><m:t>E=m</m:t></m:r><m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e>"
            f"<m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup></m:oMath>{t(' holds.')}",
            "Mass: E=mc^2 holds.",
            id="equation",
        ),
        pytest.param(
            f"<m:oMathPara {MATH}><m:oMath><m:r><m:t>a=b</m:t></m:r></m:oMath>"
            "<m:oMath><m:r><m:t>c=d</m:t></m:r></m:oMath></m:oMathPara>",
            "a=b c=d",
            id="equations",
        ),
    ],
)
def test_text_that_mammoth_passes_over(tmp_path: Path, inner: str, text: str) -> None:
    assert paragraph(tmp_path / "a.docx", inner) == text
    assert paragraph(tmp_path / "a.docx", inner, encoding="utf-16") == text


def test_notes_have_all_their_text_too(tmp_path: Path) -> None:
    note = f"{t('See ')}<w:fldSimple w:instr='REF x'>{t('there')}</w:fldSimple>"
    text = paragraph(tmp_path / "a.docx", t("Text") + run("<w:footnoteReference w:id='2'/>"), note)
    assert text == "Text^[1]\n\n1. See there"


def m(name: str, *inner: str, **properties: str) -> str:
    """An element of an equation, its parts given as XML and its properties by name."""
    said = "".join(f"<m:{key} m:val='{value}'/>" for key, value in properties.items())
    return f"<m:{name}><m:{name}Pr>{said}<m:ctrlPr/></m:{name}Pr>{''.join(inner)}</m:{name}>"


def part(name: str, text: str) -> str:
    return f"<m:{name}><m:r><m:rPr/><m:t>{text}</m:t></m:r></m:{name}>"


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        (m("f", part("num", "a+b"), part("den", "12")), "(a+b)/12"),
        (m("d", part("e", "x") + m("f", part("num", "n"), part("den", "k"), type="noBar")), "(x|n¦k)"),
        (m("d", part("e", "x"), begChr="{", endChr=""), "{x"),
        (m("sSubSup", part("e", "x"), part("sub", "i"), part("sup", "n+1")), "x_i^(n+1)"),
        (m("rad", part("deg", ""), part("e", "x")), "√(x)"),
        (m("rad", part("deg", "3"), part("e", "x")), "√(3&x)"),
        (m("nary", part("sub", "i=1"), part("sup", "n"), part("e", "i"), chr="∑"), "∑_(i=1)^n i"),
        (m("nary", part("sub", ""), part("sup", ""), part("e", "x")), "∫ x"),
        (m("func", part("fName", "sin"), part("e", "x")), "sin x"),
        (m("func", f"<m:fName>{m('limLow', part('e', 'lim'), part('lim', 'n→∞'))}</m:fName>", part("e", "a")),
         "lim_(n→∞) a"),
        (m("acc", part("e", "x")), "x\u0302"),
        (m("m", *(f"<m:mr>{part('e', a)}{part('e', b)}</m:mr>" for a, b in ("ab", "cd"))), "a, b; c, d"),
        (f"{part('e', 'x')}<w:del>{part('e', 'y')}</w:del>", "x"),
    ],
)  # fmt: skip
def test_equations_on_a_line(tmp_path: Path, equation: str, text: str) -> None:
    assert paragraph(tmp_path / "a.docx", f"<m:oMath {MATH}>{equation}</m:oMath>") == text


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
