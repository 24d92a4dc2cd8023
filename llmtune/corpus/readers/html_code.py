"""Code in HTML: a block of it in a fence, or words of it in prose between backticks, and where its lines end."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborNode

from llmtune.corpus.readers.fence import fenced

CODE = frozenset({"code", "kbd", "samp", "tt"})
SPACE = re.compile(r"[ \t\n\r\f\u00a0]+")
_LANGUAGE = re.compile(r"(?:^|\s)(?:language-|lang-|highlight-(?:source-)?|brush:\s*)([A-Za-z0-9+#-]+)")
_NOT_A_LANGUAGE = frozenset({"default", "text", "none", "plain", "plaintext", "notranslate"})
_IN_CODE = "br, div, p, ul, ol, li, dl, dt, dd, table, tr, td, th, section, article, blockquote, h1, h2, h3, h4, h5, h6"
_START, _END = "\x02", "\x03"  # of a block in code
_MARKS = re.compile("[\x02\x03]")
# Where one ends and another begins is one line's end, whether the page has a newline there too or not.
_BLOCK_EDGES = re.compile("(?:\x03+\n|\n?\x03*)\x02[\x02\x03]*|\n\x03+|\x03+\n?")


def code_block(node: LexborNode) -> str:
    """A <pre> as a code block; "" if there is nothing in it."""
    _mark_lines(node, "\n")
    code = node.text().replace("\r\n", "\n").replace("\u00a0", " ")
    if _START in code:
        code = _BLOCK_EDGES.sub("\n", code)
    code = code.strip("\n").rstrip()
    return fenced(code, _language(node)) if code.strip() else ""


def code_words(node: LexborNode) -> str:
    """Code in prose, line breaks and blocks in it as \\v."""
    inner = node.child
    if inner is None or (inner.tag == "-text" and inner.next is None):
        return _ticked(node.text())
    _mark_lines(node, _START)
    return "\v".join(map(_ticked, _MARKS.split(node.text())))


def _ticked(code: str) -> str:
    code = SPACE.sub(" ", code).strip().replace("\v", " ")
    ticks = "``" if "`" in code else "`"
    return f"{ticks}{code}{ticks}" if code else ""


def _mark_lines(node: LexborNode, line_break: str) -> None:
    """Put text for line breaks into code, and marks around the blocks in it, or else `text()` would glue its lines."""
    for part in node.css(_IN_CODE):
        if part.tag == "br":
            part.replace_with(line_break)
        elif part.tag in ("td", "th"):
            if part.prev is not None and part.prev.text().strip():
                part.insert_before("\t")
        else:
            part.insert_before(_START)
            part.insert_after(_END)


def _language(node: LexborNode) -> str:
    """The language that the class of a code block, of the <code> in it or of the boxes around it names; "" if none."""
    inner = node.css_first("code")
    around = [node.parent, node.parent.parent if node.parent is not None else None]
    for candidate in [node, inner, *around]:
        found = _LANGUAGE.search((candidate.attributes.get("class") or "") if candidate is not None else "")
        if found and found[1].lower() not in _NOT_A_LANGUAGE:
            return found[1].lower()
    return ""
