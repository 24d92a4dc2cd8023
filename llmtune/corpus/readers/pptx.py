"""PPTX (PowerPoint): the slides of a file as one document: titles as headings, text, lists, tables and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmtune.corpus.readers.docx import title_in
from llmtune.corpus.readers.office_xml import linear, settle
from llmtune.corpus.readers.reader import DAMAGED, RawDocument, Unreadable
from llmtune.corpus.readers.title import with_title
from llmtune.corpus.readers.zipped import BROKEN, parts_of, repacked
from llmtune.corpus.settings import Source
from llmtune.extras import need

_DEEPEST = 20  # groups in groups
_ALTERNATE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"
_EQUATION = "{http://schemas.microsoft.com/office/drawing/2010/main}m"
_INK = "{http://schemas.openxmlformats.org/presentationml/2006/main}contentPart"
_RUN, _TEXT = (f"{{http://schemas.openxmlformats.org/drawingml/2006/main}}{name}" for name in ("r", "t"))
_ROW = 360_000  # English Metric Units (1 cm): shapes whose tops differ by less stand side by side


class PptxReader:
    """A file is a document, its slides in their order."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        pptx = need("pptx", "reading PPTX")
        from lxml.etree import LxmlError

        parts = parts_of(path, lambda name: name.endswith((".xml", ".rels")))
        try:
            slides = [_slide(slide) for slide in pptx.Presentation(repacked(parts)).slides]
        except (LxmlError, pptx.exc.PythonPptxError, *BROKEN) as error:
            raise Unreadable(DAMAGED, f"not readable as PPTX: {error or type(error).__name__}") from error
        text = "\n\n".join(block for slide in slides for block in slide)
        yield RawDocument(text=with_title(title_in(parts.get("docProps/core.xml")), text))


def _slide(slide: Any) -> list[str]:
    """The blocks of a slide: title, shapes from the top left to the bottom right, notes."""
    _open(slide.element)
    title = slide.shapes.title
    heading = " ".join(title.text_frame.text.split()) if title is not None else ""
    blocks = [f"## {heading}"] if heading else []
    others = [shape for shape in slide.shapes if title is None or shape.element is not title.element]
    blocks += _shapes(others, 0)
    if slide.has_notes_slide:
        _open(slide.notes_slide.element)
        if (notes := slide.notes_slide.notes_text_frame) is not None:
            blocks += [text for text in map(_text, notes.paragraphs) if text]
    return blocks


def _open(slide: Any) -> None:
    """Make a slide's XML one that python-pptx can read: of alternatives one, equations as text, no ink."""
    settle(slide)
    for alternate in reversed(list(slide.iter(_ALTERNATE))):  # those inside others first
        parent = alternate.getparent()
        at = parent.index(alternate)
        parent[at : at + 1] = [shape for branch in alternate for shape in branch]
    for ink in list(slide.iter(_INK)):
        ink.getparent().remove(ink)
    for equation in list(slide.iter(_EQUATION)):
        run = equation.makeelement(_RUN)
        text = run.makeelement(_TEXT)
        text.text = linear(equation)
        run.append(text)
        equation.getparent().replace(equation, run)


def _shapes(shapes: Iterable[Any], depth: int) -> list[str]:
    blocks: list[str] = []
    for shape in sorted(shapes, key=lambda shape: ((shape.top or 0) // _ROW, shape.left or 0)):
        if hasattr(shape, "shapes"):
            blocks += _shapes(shape.shapes, depth + 1) if depth < _DEEPEST else []
        elif getattr(shape, "has_table", False) and shape.has_table:
            blocks += _table(shape.table)
        elif shape.has_text_frame and not _is_furniture(shape):
            blocks += _paragraphs(shape)
    return blocks


def _is_furniture(shape: Any) -> bool:
    """Whether a shape is the slide's number, its date, or the foot of every slide."""
    from pptx.enum.shapes import PP_PLACEHOLDER as KIND

    furniture = (KIND.DATE, KIND.FOOTER, KIND.HEADER, KIND.SLIDE_NUMBER)
    return bool(shape.is_placeholder and shape.placeholder_format.type in furniture)


def _paragraphs(shape: Any) -> list[str]:
    """The paragraphs of a shape; of the body of a slide, where they have bullets by default, as a list."""
    from pptx.enum.shapes import PP_PLACEHOLDER as KIND

    said = [(paragraph.level, text) for paragraph in shape.text_frame.paragraphs if (text := _text(paragraph))]
    body = shape.is_placeholder and shape.placeholder_format.type in (KIND.BODY, KIND.OBJECT)
    if body and len(said) > 1:
        return ["\n".join("  " * level + "- " + text.replace("\n", "\n" + "  " * (level + 1)) for level, text in said)]
    return [text for _, text in said]


def _text(paragraph: Any) -> str:
    """A paragraph's text, white space collapsed; line breaks in it (\\v) are kept."""
    return "\n".join(line for line in (" ".join(line.split()) for line in paragraph.text.split("\v")) if line)


def _table(table: Any) -> list[str]:
    rows = [[" ".join(cell.text_frame.text.split()).replace("|", "\\|") for cell in row.cells] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows if any(row)]
    if lines:
        lines.insert(1, "|" + " --- |" * len(rows[0]))
    return ["\n".join(lines)] if lines else []
