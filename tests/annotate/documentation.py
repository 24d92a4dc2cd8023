"""Real texts of several topics: the docstrings of Python's library, labelled by the family of their module."""

from __future__ import annotations

import ast
import random
import sysconfig
from collections import Counter
from functools import cache
from pathlib import Path

from llmtune.annotate.labels import Labels

FAMILIES = {
    "network": "http urllib email smtplib socket ftplib imaplib ssl socketserver poplib nntplib xmlrpc",
    "concurrency": "asyncio threading multiprocessing concurrent queue selectors subprocess sched",
    "testing": "unittest doctest pdb bdb trace traceback profile pstats",
    "files": "shutil pathlib os tempfile zipfile tarfile glob gzip lzma bz2 fileinput posixpath mailbox _pyio dbm",
    "numbers": "decimal _pydecimal fractions statistics random numbers datetime calendar colorsys",
}


@cache
def docstrings(least: int = 300) -> list[tuple[str, str]]:
    """(family, docstring) of modules, classes and functions, each text once, from `least` characters on."""
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, str] = {}
    for family, modules in FAMILIES.items():
        for name in modules.split():
            single = library / f"{name}.py"
            for file in [single] if single.exists() else sorted((library / name).rglob("*.py")):
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                        text = ast.get_docstring(node) or ""
                        if len(text) >= least:
                            found.setdefault(text, family)
    return [(family, text) for text, family in found.items()]


def with_flips(share: float, most: int, seed: int, least: int = 300) -> tuple[Labels, dict[str, str]]:
    """At most `most` docstrings a family, `share` of them with another family's label; and the true label of those."""
    draw = random.Random(seed)
    texts = draw.sample(docstrings(least), len(docstrings(least)))
    labels, true, taken = Labels(names=list(FAMILIES)), {}, Counter[str]()
    for number, (family, text) in enumerate(texts):
        taken[family] += 1
        if taken[family] > most:
            continue
        id, label = f"library#{number}", family
        if draw.random() < share:
            true[id] = family
            label = draw.choice([other for other in FAMILIES if other != family])
        labels.votes[id], labels.texts[id] = {"anna": label}, text
    return labels, true
