"""Markdown: front matter, comments, link targets, images and HTML tags go; headings, lists, tables and code stay.

What is left is still Markdown, so that all formats look alike to the model. Code (fenced, indented, inline) is kept to
the letter.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.entities import html5
from pathlib import Path

from llmtune.corpus.readers.decode import read_text
from llmtune.corpus.readers.licence import licence_named
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source

_FRONT_MATTER = re.compile(r"\A\ufeff?(---|\+\+\+)[ \t]*\r?\n(.*?)\r?\n(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_SETTING = re.compile(r"""(?:[ \t]*(?:\#[^\n]*)?\n)*[ \t]*(?:["'\w.-]+[ \t]*[:=]|\[)""")
_TITLE = re.compile(r"^title[ \t]*[:=](.*)$", re.MULTILINE | re.IGNORECASE)
_LICENCE = re.compile(r"^licen[cs]e[ \t]*[:=](.*)$", re.MULTILINE | re.IGNORECASE)
_QUOTED = re.compile(r"""(['"])(.*)\1(?:\s+#.*)?""")
# A backtick after the fence makes it a code span: ```x``` opens nothing.
_FENCE = re.compile(r"^[ \t]*(?:>[ \t]*)*(?:[-*+][ \t]+|\d+[.)][ \t]+)?(`{3,}(?![^\n]*`)|~{3,})")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)((?:[^\n]|\n(?!\s*\n))+?)(?<!`)\1(?!`)")  # within a paragraph
_LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s")
_TARGET = r"\((?:[^()\s]|\([^()]*\))*(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
_BADGE = re.compile(rf"\[!\[[^\]]*\](?:{_TARGET}|\[[^\]]*\])\](?:{_TARGET}|\[[^\]]*\])")
_IMAGE = re.compile(rf"!\[[^\]]*\](?:{_TARGET}|\[[^\]]*\])")
_LINK = re.compile(rf"(?<!\\)\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]({_TARGET}|\[[^\[\]]*\])")
_ADDRESS = re.compile(r"\(\S*[/.#:]")
_GAP = r"[ \t]*(?:\n[ \t]*)?"  # within a definition: what is behind an empty line is none of it
_LABEL = r"\[(?!\^)(?:[^\]\n]|\n(?!\s*\n)){1,999}\]"
_DEFINITION = re.compile(
    rf"^ {{0,3}}{_LABEL}:{_GAP}\S+(?:(?=\s){_GAP}(?:\"[^\"]*\"|'[^']*'|\([^)]*\)))?\s*$", re.MULTILINE
)
_WORD_TAGS = (
    "a|abbr|audio|b|big|cite|del|dfn|em|font|i|iframe|img|ins|kbd|mark|picture|s|small|source|span|strike|strong|sub|sup"
    "|tt|u|video"
)
_BLOCK_TAGS = (  # and all others that part words
    "article|aside|blockquote|br|center|col|colgroup|dd|details|div|dl|dt|figcaption|figure|footer|h[1-6]|header|hr|li"
    "|main|nav|ol|p|section|summary|table|tbody|td|tfoot|th|thead|tr|ul"
)
_TAG = re.compile(rf"<(/?)(?:({_WORD_TAGS})|({_BLOCK_TAGS}))(\s[^<>]*)?/?>", re.IGNORECASE)
_NOT_RAISED = re.compile(r"(?:st|nd|rd|th|tm|sm|®|™|&reg;|&trade;)?\s*(?:</sup|$)", re.IGNORECASE | re.MULTILINE)
_ENTITY = re.compile(r"&(?:#(?:\d{1,7}|[xX][\da-fA-F]{1,6})|[a-zA-Z][\da-zA-Z]*);")
_ALONE = ("br", "hr", "img", "source")  # elements without an end
_LONGEST_WITHIN = 2000  # characters between a tag and its end, so that all tags of a page are looked at in one pass
_PARAGRAPH_END = re.compile(r"\n\s*\n|\Z")
_HEADING = re.compile(r"^(?:#{1,6}[ \t]+\S|[^\n]+\n(?:=+|-+)[ \t]*$)", re.MULTILINE)


class MarkdownReader:
    """A file is a document; the title in its front matter becomes a heading where the text begins without one."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        matter, body = _parted(read_text(path, source.encoding))
        yield RawDocument(text=_text(matter, body), licence=licence_named(_value(_LICENCE, matter)))


def markdown_text(raw: str) -> str:
    """Markdown without its page furniture; see the head of this file."""
    return _text(*_parted(raw))


def _text(matter: str, raw: str) -> str:
    title = _value(_TITLE, matter)
    body = "".join(text if is_code else _clean_prose(text) for is_code, text in _blocks(raw)).strip("\n")
    if title and not _HEADING.match(body):
        return f"# {title}\n\n{body}"
    return body


def _value(setting: re.Pattern[str], matter: str) -> str:
    """What a setting of the front matter says, "" where it is not there. YAML's comments go."""
    found = setting.search(matter)
    value = found[1].strip() if found else ""
    if quoted := _QUOTED.fullmatch(value):
        return quoted[2].strip()
    value = re.sub(r"(?:^|(?<=\s))#.*", "", value).strip()
    return "" if value[:1] in ("|", ">") else value  # a block of lines, which is not read


def _parted(raw: str) -> tuple[str, str]:
    """The front matter, "" where there is none, and the rest, with \\n at the ends of lines."""
    raw = raw.replace("\r\n", "\n").replace("\r", "\n")
    matter = _FRONT_MATTER.match(raw)
    if matter and _SETTING.match(matter[2]):  # else a text that begins with a rule
        return matter[2], raw[matter.end() :]
    return "", raw


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """The text cut into (is it code, lines): fenced blocks with their fences, and indented blocks, are code."""
    prose: list[str] = []
    code: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        opened = _FENCE.match(line)
        if fence:
            code.append(line)
            if opened and opened[1].startswith(fence) and not line[opened.end() :].strip():
                yield True, "".join(code)
                code, fence = [], ""
        elif opened:
            if prose:
                yield False, "".join(prose)
                prose = []
            code, fence = [line], opened[1]
        elif line.startswith(("    ", "\t")) and not _LIST_ITEM.match(line):
            if prose:
                yield False, "".join(prose)
                prose = []
            yield True, line
        else:
            prose.append(line)
    if prose:
        yield False, "".join(prose)
    if code:  # a fence that nobody closed
        yield True, "".join(code)


def _clean_prose(text: str) -> str:
    """Clean all of a piece of prose except the code spans in it."""
    spans: list[str] = []

    def hide(match: re.Match[str]) -> str:
        spans.append(match[0])
        return f"\0{len(spans) - 1}\0"

    text = _CODE_SPAN.sub(hide, text.replace("\0", "").replace("\v", " "))
    text = _without_comments(text)
    text = _DEFINITION.sub("", text)
    text = _IMAGE.sub("", _BADGE.sub("", text))
    text = _LINK.sub(_without_target, text)
    text = _TAG.sub(_without_tag, text)
    text = re.sub(r"(?<=\S)\v+(?=\S)", " ", text).replace("\v", "")
    text = _ENTITY.sub(_character, text)
    return re.sub(r"\0(\d+)\0", lambda match: spans[int(match[1])], text)


def _without_comments(text: str) -> str:
    """Without <!-- comments -->; one that is never closed stays. Each character is looked at once."""
    parts, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        parts.append(text[at:start])
        at = end + 3
    return "".join([*parts, text[at:]])


def _without_target(link: re.Match[str]) -> str:
    """The text of a link. Directly after a word or a bracket it is one only if it leads to something like an address:
    `a[i](x)` and `a[i][j]` are code."""
    return link[0] if _follows(link, r"[\w)\]]") and not _ADDRESS.match(link[2]) else link[1]


def _without_tag(tag: re.Match[str]) -> str:
    """Nothing, \\v for a tag that parts words, ^ before what is raised; but `vector<a>` stays: directly after a word,
    a bare tag is one only if its paragraph has its end."""
    closing, within, block, attributes = tag.groups()
    name = within or block
    gone = "\v" if block else ""
    if name.lower() == "sup" and not closing and _follows(tag, r"\S"):
        gone = "" if _NOT_RAISED.match(tag.string, tag.end()) else "^"
    if closing or attributes or name.lower() in _ALONE or not _follows(tag, r"\w"):
        return gone
    end = _PARAGRAPH_END.search(tag.string, tag.end(), tag.end() + _LONGEST_WITHIN)
    return gone if end and tag.string.find(f"</{name}", tag.end(), end.start()) >= 0 else tag[0]


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for. One without its semicolon is none: `&section=2` is a part of an address."""
    return html.unescape(entity[0]) if entity[0][1] == "#" else html5.get(entity[0][1:], entity[0])


def _follows(match: re.Match[str], kind: str) -> bool:
    return match.start() > 0 and bool(re.match(kind, match.string[match.start() - 1]))
