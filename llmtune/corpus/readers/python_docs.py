"""The documentation of the running Python: language topics, the library's docstrings, the built-in modules.

Read at run time from the standard library's own source files by `ast`, so that no module is imported for it (importing
some of them opens windows or browsers). Only C modules that every Python has, whose text stands nowhere else, are
looked at alive.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from llmtune.corpus.readers.reader import DAMAGED, RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source

LICENCE = "PSF-2.0"
_TOPICS = "pydoc_data/topics.py"
# Folders that hold tests, programs, vendored packages or tables rather than the library.
_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "turtledemo", "_bundled", "lib2to3"}
    | {"encodings", "distutils", "__pycache__", "__phello__", "config", "pydoc_data"}
)
_BUILT_IN = (
    "builtins", "sys", "time", "itertools", "math", "cmath", "gc", "array", "binascii", "errno", "marshal", "atexit",
    "faulthandler", "unicodedata", "zlib",
)  # fmt: skip


def library() -> Path:
    """The folder of the standard library's source files."""
    return Path(sysconfig.get_path("stdlib"))


class PythonDocsReader:
    """One document a topic and one a module. `path` is the folder of the standard library."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        yield from _topics(path)
        for name in _BUILT_IN:
            text = _built_in_text(name)
            if text:
                yield RawDocument(f"builtin/{name}", text, licence=LICENCE)
        for file in _modules(path):
            name = ".".join(file.relative_to(path).with_suffix("").parts).removesuffix(".__init__")
            try:
                text = module_text(file, name)
            except (OSError, SyntaxError, UnicodeError, ValueError) as error:
                yield Rejected(f"module/{name}", DAMAGED, f"not readable as Python: {error}")
                continue
            if text:
                yield RawDocument(f"module/{name}", text, licence=LICENCE)


def module_text(file: Path, name: str) -> str:
    """The docstrings of a module's public parts under their signatures, as Markdown; "" when there are none."""
    with tokenize.open(file) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in others' code are none of our user's business
        tree = ast.parse(opened.read())
    parts = list(_members(tree, name, 2))
    own = ast.get_docstring(tree)
    if not parts and not own:
        return ""
    return "\n\n".join([f"# Module `{name}`", *([own] if own else []), *parts])


def _topics(folder: Path) -> Iterator[RawDocument]:
    """The language reference that `help()` shows: a file with one dictionary, topic → text."""
    file = folder / _TOPICS
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable(DAMAGED, f"this Python has no {_TOPICS} ({error.strerror})") from error
    values = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    for topic, text in sorted(ast.literal_eval(values[0]).items()):
        yield RawDocument(f"topic/{topic}", text, licence=LICENCE)


def _modules(folder: Path) -> list[Path]:
    """The source files of public modules; what is left out is not even walked through (installed packages are many)."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _left_out(name)]
        found.extend(Path(root, name) for name in names if name.endswith(".py") and not _private(name))
    return sorted(found)


def _left_out(folder: str) -> bool:
    return folder in _LEFT_OUT or folder.startswith("config-") or _private(folder)


def _private(name: str) -> bool:
    return name.startswith("_") and name not in ("__init__.py", "__future__.py")


def _members(owner: ast.Module | ast.ClassDef, prefix: str, level: int) -> Iterator[str]:
    """Sections of the documented public functions and classes of a module or class, in the order of the source."""
    for node in owner.body:
        if isinstance(node, ast.If | ast.Try):  # definitions that depend on the platform: the first branch
            yield from _members(ast.Module(body=node.body, type_ignores=[]), prefix, level)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        inner = list(_members(node, name, min(level + 1, 4))) if isinstance(node, ast.ClassDef) else []
        documentation = ast.get_docstring(node)
        if documentation or inner:
            yield "\n\n".join([f"{'#' * level} `{_signature(node, name)}`", *filter(None, [documentation]), *inner])


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, name: str) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    start = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{start}{name}({ast.unparse(node.args)}){result}"


def _built_in_text(name: str) -> str:
    """The same for a C module, from the live objects."""
    try:
        module: ModuleType = importlib.import_module(name)
    except ImportError:  # not in this build
        return ""
    own = inspect.cleandoc(module.__doc__) if module.__doc__ else None
    parts = list(_live_members(module, "" if name == "builtins" else f"{name}.", 2))
    return "\n\n".join([f"# Module `{name}`", *([own] if own else []), *parts]) if parts else ""


def _live_members(owner: Any, prefix: str, level: int) -> Iterator[str]:
    for name, value in sorted(vars(owner).items()):
        if name.startswith("_") or not (inspect.isroutine(value) or inspect.isclass(value)):
            continue
        # What a program put into the module (a REPL's `copyright`, a display hook) is not the library's documentation.
        documentation = value.__doc__
        if not isinstance(documentation, str) or not documentation.strip() or _is_python(value):
            continue
        title = f"class {prefix}{name}" if inspect.isclass(value) else f"{prefix}{name}{_live_signature(value)}"
        inner = list(_live_members(value, f"{prefix}{name}.", 3)) if inspect.isclass(value) and level == 2 else []
        yield "\n\n".join([f"{'#' * level} `{title}`", inspect.cleandoc(documentation), *inner])


def _is_python(value: Any) -> bool:
    return inspect.isfunction(value) or (inspect.isclass(value) and value.__module__ in ("__main__", "_sitebuiltins"))


def _live_signature(value: Any) -> str:
    try:
        return str(inspect.signature(value))
    except (ValueError, TypeError):  # C code without a text signature; its docstring begins with one as a rule
        return "(...)"


def version() -> str:
    """What the documents depend on: implementation and exact build of the running Python."""
    return f"{sys.implementation.name} {sys.version} {sys.platform}"
