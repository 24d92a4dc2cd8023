"""An HTML element as Markdown-like text: headings, paragraphs, lists, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborNode

from llmtune.corpus.readers.html_code import CODE, SPACE, code_block, code_words
from llmtune.corpus.readers.html_table import WIDEST, number_in, rows_of

_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("header", "hgroup", "hr", "legend", "li", "main", "ol", "p", "pre", "section", "summary", "table", "tbody"),
        *("td", "tfoot", "th", "thead", "tr", "ul"),
    }
)
_BLOCKS_IN_CODE = _BLOCKS - {"div"}
_WHOLE = frozenset({"blockquote", "dl", "ol", "pre", "table", "ul"})  # blocks that more than their children make
_NOT_RAISED = frozenset({"", "st", "nd", "rd", "th", "tm", "sm", "®", "™"})  # 5th is no power of 5
_DEEPEST = 150  # nesting beyond this is taken as plain text, so that no page can exhaust the stack


def blocks_text(node: LexborNode) -> str:
    """The text of an element, blocks apart by one empty line."""
    return "\n\n".join(_blocks(node, 0))


def _blocks(node: LexborNode, depth: int) -> list[str]:
    """The blocks of an element's children; loose inline content between them makes paragraphs."""
    if depth > _DEEPEST:
        return [_paragraph(node.text(separator=" "))]
    found: list[str] = []
    for part in _parts(node, depth):
        if isinstance(part, str):
            found.append(part)
        else:
            found.extend(filter(None, _block(part, depth + 1)))
    return found


def _parts(node: LexborNode, depth: int) -> Iterator[LexborNode | str]:
    """The blocks among an element's children, and as paragraphs the inline content between them."""
    loose: list[str] = []
    child = node.child
    while child is not None:
        if child.tag in _BLOCKS or (child.is_element_node and _holds_blocks(child)):
            if loose and (text := _paragraph("".join(loose))):
                yield text
            loose.clear()
            yield child
        else:
            _inline(child, loose, depth + 1)
        child = child.next
    if loose and (text := _paragraph("".join(loose))):
        yield text


def _holds_blocks(node: LexborNode) -> bool:
    """Whether an inline element (<a>, <span>, a custom element) wraps blocks. A <div> in code is a line of it."""
    blocks = _BLOCKS_IN_CODE if node.tag in CODE else _BLOCKS
    child = node.child
    while child is not None:
        if child.tag in blocks:
            return True
        child = child.next
    return False


def _block(node: LexborNode, depth: int) -> list[str]:
    tag = node.tag or ""
    if tag == "pre":
        return [code_block(node)]
    if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
        text = _line(node, depth)
        return [f"{'#' * int(tag[1])} {text}"] if text else []
    if tag in ("ul", "ol"):
        return [_list(node, tag == "ol", depth)]
    if tag == "table":
        return _table(node, depth)
    if tag == "dl":
        return _definitions(node, depth)
    if tag == "blockquote":
        quoted = "\n\n".join(_blocks(node, depth))
        return ["\n".join(f"> {line}".rstrip() for line in quoted.split("\n"))] if quoted else []
    if tag == "hr":
        return []
    return _blocks(node, depth)


def _inline(node: LexborNode, parts: list[str], depth: int) -> None:
    """Append an inline node's text; white space is collapsed later, line breaks are kept as \\v until then."""
    tag = node.tag
    if tag == "-text":
        parts.append(node.text_content or "")
    elif tag == "br":
        parts.append("\v")
    elif tag in CODE:
        parts.append(code_words(node))
    elif tag == "math":
        parts.append(node.attributes.get("alttext") or node.text(separator=" "))
    elif not node.is_element_node:
        return
    elif depth > _DEEPEST:
        parts.append(f" {node.text(separator=' ')} ")
    elif tag == "sup":
        text = _line(node, depth)
        parts.append(text if text.lower() in _NOT_RAISED else f"^{text}")
    else:
        before, behind = ("“", "”") if tag == "q" else (" ", " ") if tag in _BLOCKS else ("", "")
        parts.append(before)
        child = node.child
        while child is not None:
            _inline(child, parts, depth + 1)
            child = child.next
        parts.append(behind)


def _paragraph(text: str) -> str:
    lines = (SPACE.sub(" ", line).strip() for line in text.split("\v"))
    return "\n".join(line for line in lines if line)


def _line(node: LexborNode, depth: int) -> str:
    """All of an element's text on one line."""
    parts: list[str] = []
    child = node.child
    while child is not None:
        _inline(child, parts, depth + 1)
        child = child.next
    return SPACE.sub(" ", "".join(parts).replace("\v", " ")).strip()


def _list(node: LexborNode, ordered: bool, depth: int) -> str:
    items: list[str] = []
    number = number_in(node.attributes.get("start"))
    for part in _entries(node, depth):
        if isinstance(part, str):
            items.append(f"\n{part}\n")
            continue
        blocks = _entry(part, depth + 1)
        marker = f"{number}. " if ordered else "- "
        if blocks:
            items.append(marker + _indented(_tight(blocks), len(marker)))
            number += 1
    return "\n".join(items).strip("\n")


def _entries(node: LexborNode, depth: int) -> Iterator[LexborNode | str]:
    """The elements of a list. If text stands between them, old pages indent by a list what is none of its items."""
    if any(child.tag == "-text" and (child.text_content or "").strip() for child in node.iter(include_text=True)):
        return _parts(node, depth)
    return node.iter()


def _entry(node: LexborNode, depth: int) -> list[str]:
    """The blocks of an item. A list or code inside a list without an item of its own is wrong HTML that is
    everywhere."""
    if node.tag in _WHOLE and depth <= _DEEPEST:
        return list(filter(None, _block(node, depth)))
    return _blocks(node, depth)


def _tight(blocks: list[str]) -> str:
    """Blocks of a list item: a nested list follows its line directly, anything else after an empty line."""
    text = blocks[0]
    for block in blocks[1:]:
        text += ("\n" if re.match(r"(?:- |\d+\. )", block) else "\n\n") + block
    return text


def _indented(text: str, width: int) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * width + line if line else "" for line in rest)])


def _definitions(node: LexborNode, depth: int) -> list[str]:
    """A definition list: each group of terms on lines of their own, directly above what defines them."""
    found: list[str] = []
    terms: list[str] = []
    for part in _definition_parts(node, depth):
        if isinstance(part, str):
            blocks = [part]
        elif part.tag == "dt":
            terms.extend(filter(None, [_line(part, depth + 1)]))
            continue
        else:
            blocks = _entry(part, depth + 1)
        if blocks and terms:
            gap = "\n\n" if blocks[0].startswith(("```", "- ", "|")) else "\n"
            blocks[0] = "\n".join(terms) + gap + blocks[0]
            terms = []
        found.extend(blocks)
    return [*found, *terms]


def _definition_parts(node: LexborNode, depth: int) -> Iterator[LexborNode | str]:
    """The parts of a definition list, also where each term and what defines it stand in a <div>."""
    for part in _entries(node, depth):
        if isinstance(part, LexborNode) and part.tag == "div" and depth < _DEEPEST:
            yield from _definition_parts(part, depth + 1)
        else:
            yield part


def _table(node: LexborNode, depth: int) -> list[str]:
    """A table of short cells as a Markdown table; one column, very many, or cells with code or lists in them, as
    blocks."""
    caption = next((child for child in node.iter() if child.tag == "caption"), None)
    title = [_line(caption, depth + 1)] if caption is not None else []
    rows = rows_of(node)
    columns = sorted({column for row in rows for column in row})  # without those into which cells only reach
    if not columns:
        return title
    in_blocks = not 1 < len(columns) <= WIDEST
    if in_blocks or node.css_first("td pre, td table, td ul, td ol, td dl") is not None:
        return [*title, *(block for row in rows for cell in row.values() for block in _cell_blocks(cell, depth + 1))]
    lines = [[_cell(row[column], depth) if column in row else "" for column in columns] for row in rows]
    lines = [line for line in lines if any(line)]
    if not lines:
        return title
    text = [f"| {' | '.join(line)} |" for line in lines]
    text.insert(1, "|" + " --- |" * len(columns))
    return [*title, "\n".join(text)]


def _cell(cell: LexborNode, depth: int) -> str:
    return _line(cell, depth + 1).replace("|", "\\|")


def _cell_blocks(cell: LexborNode, depth: int) -> list[str]:
    """The paragraphs of a cell that is laid out as blocks, line under line, code and lists apart."""
    joined: list[str] = []
    for block in _blocks(cell, depth):
        plain = not block.startswith(("```", "- ", "|", "1. "))
        if plain and joined and not joined[-1].endswith("```"):
            joined[-1] += "\n" + block
        else:
            joined.append(block)
    return joined
