"""Jupyter notebooks, written by hand after the format's description (nbformat 3 and 4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.notebook import notebook_text
from llmtune.corpus.readers.reader import RawDocument, Unreadable
from llmtune.corpus.settings import Source


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": source, "outputs": list(outputs)}


def result(**data: str) -> dict[str, Any]:
    return {"output_type": "execute_result", "data": {key.replace("_", "/"): value for key, value in data.items()}}


NOTEBOOK = {
    "cells": [
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": ["# Title\n", "\n", "See [the page](page.html) ![](a.png)"],
        },
        code("1 + 1", result(text_plain="2")),
        code("print('a')\n", {"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]}),
        code("warn()", {"output_type": "stream", "name": "stderr", "text": "careful"}),
        code("table", result(text_plain="   x\n0  1", text_html="<table>")),
        code("plot()", result(text_plain="<Figure size 640x480 with 1 Axes>")),
        code("thing", result(text_plain="<pkg.Thing at 0x7f3a>")),
        code("long", result(text_plain="line\n" * 21)),
        code("fail()", {"output_type": "error", "ename": "E", "evalue": "x", "traceback": ["..."]}),
        code("fence = '```'"),
        code(""),
        {"cell_type": "raw", "metadata": {}, "source": "\\newpage"},
        {"cell_type": "markdown", "metadata": {}, "source": "The end."},
    ],
    "metadata": {"kernelspec": {"language": "R"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}

TEXT = """# Title

See the page

```r
1 + 1
```

```
2
```

```r
print('a')
```

```
a
b
```

```r
warn()
```

```r
table
```

```r
plot()
```

```r
thing
```

```r
long
```

```r
fail()
```

````r
fence = '```'
````

The end."""


def test_a_notebook(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(NOTEBOOK))
    (document,) = reader_of("notebook").read(path, Source(path=path))
    assert isinstance(document, RawDocument)
    assert [line.rstrip() for line in (document.text or "").split("\n")] == TEXT.split("\n")


def test_the_format_before() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Part"},
        {"cell_type": "code", "input": "1", "outputs": [{"output_type": "pyout", "text": ["1"]}]},
    ]
    text = notebook_text({"nbformat": 3, "worksheets": [{"cells": cells}], "metadata": {}})
    assert text == "## Part\n\n```python\n1\n```\n\n```\n1\n```"


@pytest.mark.parametrize("content", ["{", "[]", '{"metadata": {}}', '{"cells": 1}', "[" * 100_000])
def test_what_is_no_notebook_is_damaged(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(content)
    with pytest.raises(Unreadable, match="damaged file: not a notebook"):
        list(reader_of("notebook").read(path, Source(path=path)))


def test_cells_that_are_none_are_passed_over() -> None:
    assert notebook_text({"cells": [1, {}, {"cell_type": "code", "source": 3}, {"cell_type": "markdown"}]}) == ""


def test_a_heading_of_no_sane_level(tmp_path: Path) -> None:
    cell = {"cell_type": "heading", "level": 10**12, "source": "Title"}
    (tmp_path / "a.ipynb").write_text(json.dumps({"nbformat": 3, "worksheets": [{"cells": [cell]}]}))
    (document,) = reader_of("notebook").read(tmp_path / "a.ipynb", Source(path=tmp_path / "a.ipynb"))
    assert isinstance(document, RawDocument)
    assert "###### Title" in (document.text or "")


def test_a_fence_is_longer_than_what_it_holds() -> None:
    from llmtune.corpus.readers.fence import fenced

    assert fenced("x = 1", "python") == "```python\nx = 1\n```"
    assert fenced("a ```` b ``` c") == "`````\na ```` b ``` c\n`````"
    assert fenced("`" * 200_000).startswith("`" * 200_001)
