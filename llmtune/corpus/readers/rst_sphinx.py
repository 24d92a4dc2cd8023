"""What docutils makes of roles and directives that it does not know: Sphinx's by their kind, all others as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives, roles
from docutils.parsers.rst.languages import en

_NAME = r"[^\W_]+(?:[-._+:][^\W_]+)*"
_DIRECTIVE = re.compile(rf"^[ \t]*(?:[-*+|] +)*\.\. +(?:\|[^|\n]+\| +)?({_NAME}) ?::", re.MULTILINE)
_ROLE = re.compile(rf":({_NAME}):`|`:({_NAME}):")
_TARGET = re.compile(r"^(.*?)\s*<[^<>]*>$", re.DOTALL)

# Of these nothing is to be read: they arrange the pages of a site, or take text from elsewhere.
_DROPPED_LISTED = (
    "toctree index highlight currentmodule module default-domain sectionauthor moduleauthor codeauthor "
    "tabularcolumns literalinclude include raw meta date contents sectnum section-numbering header footer target- "
    "notes testsetup testcleanup todolist acks autosummary graphviz digraph graph inheritance-diagram plot image- "
    "sg bibliography centered-image youtube badge"
)
_DROPPED = frozenset(_DROPPED_LISTED.split())
_CONTENT = frozenset({"only", "ifconfig", "rst-class", "cssclass", "grid"})  # the argument is a condition or a form
_CODE_LISTED = (
    "sourcecode code-block code-cell testcode testoutput doctest ipython prompt parsed-literal productionlist "
    "mermaid jupyter-execute command-output uml console"
)
_CODE = frozenset(_CODE_LISTED.split())
_NO_LANGUAGE_LISTED = "testoutput parsed-literal productionlist none text default"
_NO_LANGUAGE = frozenset(_NO_LANGUAGE_LISTED.split())
_CHANGES = {
    "versionadded": "New in version",
    "versionchanged": "Changed in version",
    "versionremoved": "Removed in version",
    "deprecated": "Deprecated since version",
    "deprecated-removed": "Deprecated since version",
}
# roles whose text is prose; that of others is a name of something, to be shown as code
_WORDS_LISTED = (
    "ref doc term abbr dfn guilabel menuselection numref any index cite eq download pep rfc cve cwe strong "
    "emphasis math sub sup user issue pr gh bpo source manpage mailheader mimetype newsgroup regexp token keyword"
)
_WORDS = frozenset(_WORDS_LISTED.split())


class _AnyOption(dict[str, Any]):
    """Takes every option, so that an option's line is never taken for text."""

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        return directives.unchanged


class _Dropped(Directive):
    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = _AnyOption()

    def run(self) -> list[nodes.Node]:
        return []


class _Code(_Dropped):
    """The content to the letter; the argument names its language."""

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        if self.name == "productionlist" and self.arguments:
            text = "\n".join([self.arguments[0], text])
        block = nodes.literal_block(text, text)
        if self.arguments and self.name not in _NO_LANGUAGE and self.arguments[0] not in _NO_LANGUAGE:
            block["classes"] = [self.arguments[0].split()[0].lower()]
        return [block]


class _Change(_Dropped):
    """`versionadded` and its like: a sentence with the version, and what changed."""

    def run(self) -> list[nodes.Node]:
        version, rest = [*(self.arguments[0].split(None, 1) if self.arguments else ()), "", ""][:2]
        if self.name == "deprecated-removed":
            until, rest = [*rest.split(None, 1), "", ""][:2]
            version = f"{version}, to be removed in {until}"
        said, _ = self.state.inline_text(f"{_CHANGES[self.name]} {version}: {rest}".rstrip(" :"), self.lineno)
        return [nodes.paragraph("", "", *said), *_parsed(self)]


class _Content(_Dropped):
    """The content alone."""

    def run(self) -> list[nodes.Node]:
        return _parsed(self)


class _Described(_Dropped):
    """Anything else. An argument in the form of code (a signature, an option, a name of a domain) is shown as code,
    any other as a paragraph; the content follows as text."""

    def run(self) -> list[nodes.Node]:
        lines = self.arguments[0].split("\n") if self.arguments else []
        shown: list[nodes.Node] = []
        for line in lines:
            line = re.sub(r"\\(.)", r"\1", line.strip())
            as_code = ":" in self.name or self.name in _OBJECTS or re.search(r"[()\[\]=_]|^-", line)
            if as_code:
                shown.append(nodes.paragraph("", "", nodes.literal(line, line)))
            else:
                said, _ = self.state.inline_text(line, self.lineno)
                shown.append(nodes.paragraph("", "", *said))
        return [*shown, *_parsed(self)]


_OBJECTS_LISTED = (
    "function class method classmethod staticmethod attribute property data exception decorator decoratormethod "
    "describe object option program envvar cmdoption confval setting variable command signature macro type struct "
    "enum enumerator member var opcode pdbcommand coroutinefunction coroutinemethod awaitablefunction "
    "awaitablemethod abstractmethod genindex module"
)
_OBJECTS = frozenset(_OBJECTS_LISTED.split())


def _parsed(directive: Directive) -> list[nodes.Node]:
    """The content of a directive as nodes."""
    holder = nodes.Element()
    directive.state.nested_parse(directive.content, directive.content_offset, holder, match_titles=True)
    return list(holder.children)


def _as_words(name: str, rawtext: str, text: str, *_: Any, **__: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
    return [nodes.Text(_shown(text))], []


def _as_code(name: str, rawtext: str, text: str, *_: Any, **__: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
    shown = _shown(text)
    return [nodes.literal(shown, shown)], []


def _shown(text: str) -> str:
    """What a page shows of a role's text: the title of `title <target>`, the last name of `~package.module.name`."""
    text = nodes.unescape(text)
    titled = _TARGET.match(text)
    if titled and titled[1]:
        return titled[1]
    return text[1:].rpartition(".")[2] if text.startswith("~") else text.removeprefix("!")


@contextmanager
def known_names(raw: str) -> Iterator[None]:
    """While a file is parsed, each role and directive that stands in it means something. Roles and directives that
    docutils knows keep their meaning, except those that would read the clock or another file."""
    before = dict(directives._directives), dict(roles._roles)
    try:
        for name in _DROPPED:  # in every form that docutils reads, and not only in those that are looked for below
            directives.register_directive(name, _Dropped)
        for name in {found[1].lower() for found in _DIRECTIVE.finditer(raw)} - _DROPPED:
            if name.startswith("auto"):
                directives.register_directive(name, _Dropped)
            elif name in _CHANGES:
                directives.register_directive(name, _Change)
            elif name in _CONTENT:
                directives.register_directive(name, _Content)
            elif name in _CODE or name.rpartition(":")[2] in _CODE:
                directives.register_directive(name, _Code)
            elif name not in en.directives:
                directives.register_directive(name, _Described)
        for name in {(found[1] or found[2]).lower() for found in _ROLE.finditer(raw)}:
            if name not in en.roles:
                roles.register_local_role(name, _as_words if name in _WORDS else _as_code)
        yield
    finally:  # a role that a file defines is that file's
        for registry, kept in zip((directives._directives, roles._roles), before, strict=True):
            registry.clear()
            registry.update(kept)
