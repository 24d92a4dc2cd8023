"""YAML text → plain values and the line and column of each. Safe: no tag is executed, no alias can explode.

The node tree comes from ruamel.yaml (YAML 1.2: `no` is a word, `3e-4` a number, `250_000` too); the values are made
here, so that every one keeps its place and every fault is reported, not only the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 1_000_000  # a recipe is a page; more is another kind of file
MAX_VALUES = 50_000  # after aliases are expanded
MAX_DEPTH = 60

# What the parser says → what the writer has to do.
HINTS = {
    "expected chomping": "a value that starts with '>' or '|' needs quotes",
    "mapping values are not allowed": "a value that holds ': ' needs quotes; or a line is indented wrongly",
    "cannot start any token": "indent with spaces, not tabs; a value that starts with @, ` or % needs quotes",
    "found undefined alias": "a value that starts with '*' needs quotes",
    "but got '<stream end>'": "a bracket is not closed",
}

# Where a value stands in a document: keys and list positions from the top.
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A line and column (from 1) in a file; no line: the whole file, or the command line."""

    name: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.name if self.line is None else f"{self.name}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass
class Source:
    """A parsed YAML document.

    data:     plain dicts, lists, str, int, float, bool, None
    keys:     place of the key (or list item) at each path
    values:   place of the value at each path
    problems: what was wrong with the YAML itself
    """

    name: str
    data: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where `path` stands, or the nearest thing around it that was written."""
        while path:
            for places in (self.keys, self.values) if key else (self.values, self.keys):
                if path in places:
                    return places[path]
            path = path[:-1]
            key = True  # a thing that is not written belongs to the key of the block around it
        return self.values.get((), Place(self.name))


def parse(text: bytes, name: str) -> Source:
    """Parse YAML; faults are in `.problems` (then `.data` is what could be read)."""
    source = Source(name)
    if len(text) > MAX_BYTES:
        source.problems.append(Problem(Place(name), f"is {len(text):,} bytes; expected a YAML recipe, a page of text"))
        return source
    decoded = _decode(text, source)
    if decoded is None:
        return source
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True  # they are reported below, all of them
    try:
        documents = list(yaml.compose_all(decoded))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
        source.problems.append(Problem(place, f"not YAML: {_explain(error.problem or error.context or '')}"))
        return source
    except YAMLError as error:  # a control character, …
        source.problems.append(Problem(Place(name), f"not YAML: {' '.join(str(error).split())}"))
        return source
    except RecursionError:
        source.problems.append(Problem(Place(name), "blocks are nested too deeply for a recipe"))
        return source
    documents = [document for document in documents if document is not None]
    if len(documents) > 1:
        what = "a second YAML document; expected one recipe a file"
        source.problems.append(Problem(_start(documents[1], name), what))
    if documents:
        _Builder(source).build_document(documents[0])
    return source


def _decode(text: bytes, source: Source) -> str | None:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        what = f"byte 0x{text[error.start]:02x} is not UTF-8; expected a text file in UTF-8"
        source.problems.append(Problem(Place(source.name, line, column), what))
        return None


def _explain(problem: str) -> str:
    hint = next((hint for part, hint in HINTS.items() if part in problem), None)
    return f"{problem} ({hint})" if hint else problem


def _start(node: Node, name: str) -> Place:
    return Place(name, node.start_mark.line + 1, node.start_mark.column + 1)


class _TooMuch(Exception):
    """The document is larger, deeper or more tangled than a recipe can be; ends the reading."""


class _Builder:
    """Makes plain values from a node tree, once for each place an alias puts them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.made = 0
        self.open: list[int] = []  # ids of the nodes around the present one: an alias to one of them has no end

    def build_document(self, root: Node) -> None:
        try:
            self.source.data = self.build(root, ())
        except _TooMuch:
            self.source.data = None

    def build(self, node: Node, path: Path) -> Any:
        place = _start(node, self.source.name)
        written = not isinstance(node, ScalarNode) or node.value or node.style  # `key:` alone stands at its key
        if written or path not in self.source.keys:
            self.source.values[path] = place
        self.made += 1
        if self.made > MAX_VALUES:
            self.stop(place, f"more than {MAX_VALUES:,} values once aliases are expanded")
        if id(node) in self.open:
            self.stop(place, "an alias inside the block it stands for: it would have no end")
        if len(self.open) > MAX_DEPTH:
            self.stop(place, "blocks are nested too deeply for a recipe")
        self.open.append(id(node))
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, path)
            if isinstance(node, SequenceNode):
                self.refuse_tag(node, "tag:yaml.org,2002:seq")
                return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, ScalarNode), "a YAML node is a block, a list or a value"
            return self.scalar(node, place)
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        self.refuse_tag(node, "tag:yaml.org,2002:map")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _start(key_node, self.source.name)
            if not isinstance(key_node, ScalarNode):
                self.fault(place, "a block used as a key; expected a word")
                continue
            key = key_node.value
            if str(key_node.tag).endswith(":merge"):
                self.fault(place, "merge keys ('<<') are not read; repeat the settings, or alias the whole block")
                continue
            if key in result:
                first = self.source.keys[(*path, key)]
                self.fault(place, f"key '{key}' is here twice (first in line {first.line})")
                continue
            self.source.keys[(*path, key)] = place
            result[key] = self.build(value_node, (*path, key))
        return result

    def scalar(self, node: ScalarNode, place: Place) -> Any:
        kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
        text: str = node.value
        if node.style is not None and kind == "str":
            return text
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() in {"true", "yes", "on", "y"}  # the longer ones only after `%YAML 1.1`
            if kind == "int":
                return int(text.replace("_", ""), 0 if text.lstrip("+-").lower().startswith(("0x", "0o", "0b")) else 10)
            if kind == "float":
                return self.number(text, place)
        except ValueError:
            return text
        if kind not in {"str", "timestamp"}:
            self.refuse_tag(node, "tag:yaml.org,2002:str")
        return text

    def number(self, text: str, place: Place) -> float:
        plain = text.replace("_", "").lower()
        value = float(plain.replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(value):
            self.fault(place, f"found {text}; expected a finite number")
        return value

    def refuse_tag(self, node: Node, expected: str) -> None:
        if str(node.tag) != expected:
            tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")
            self.fault(_start(node, self.source.name), f"tag '{tag}'; a recipe holds plain values only, remove the tag")

    def fault(self, place: Place, text: str) -> None:
        self.source.problems.append(Problem(place, text))

    def stop(self, place: Place, text: str) -> None:
        self.fault(place, text)
        raise _TooMuch
