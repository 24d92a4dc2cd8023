"""The folder that annotators get: one file each, and `asked.json` that says what was asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmtune.annotate.cells import write_table
from llmtune.annotate.label_studio import studio_config, studio_tasks
from llmtune.annotate.records import refuse_existing, write_lines
from llmtune.annotate.tasks import Task, text_hash
from llmtune.errors import BadArtifact, LlmtuneError
from llmtune.files import made_whole, read_json, write_json, write_text

Format = Literal["csv", "jsonl", "label-studio"]
ASKED = "asked.json"
CONFIG = "label-studio.xml"
_SUFFIX = {"csv": "csv", "jsonl": "jsonl", "label-studio": "json"}


@dataclass(frozen=True)
class Asked:
    """What an export asked for. texts, groups: `text_hash` and group by id of the document."""

    labels: tuple[str, ...]
    texts: dict[str, str]
    groups: dict[str, str]


def labels_in(text: str) -> tuple[str, ...]:
    """The labels of a list with commas; raises LlmtuneError if they are not two different ones or more."""
    labels = tuple(label.strip() for label in text.split(","))
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(one and one.isprintable() for one in labels):
        raise LlmtuneError(
            f"'{text}' are not two or more different labels", where="--labels", fix="write them as: --labels spam,ham"
        )
    return labels


def write_export(
    folder: Path, tasks: Sequence[Task], labels: Sequence[str], format: Format, annotators: int = 1
) -> list[str]:
    """Write a new folder with the same tasks in one file an annotator; returns the files' names. A folder that is
    there is never touched: labels may be in it."""
    refuse_existing(folder)
    if not tasks:
        raise LlmtuneError("there is no document to label", where=str(folder), fix="take another split")
    stems = ["tasks"] if annotators == 1 else [f"annotator-{number}" for number in range(1, annotators + 1)]
    names = [f"{stem}.{_SUFFIX[format]}" for stem in stems]

    def make(temporary: Path) -> None:
        for name in names:
            _write_tasks(temporary / name, tasks, format)
        if format == "label-studio":
            write_text(temporary / CONFIG, studio_config(labels))
        items = [{"id": task.id, "text": text_hash(task.text), "group": task.group} for task in tasks]
        write_json(temporary / ASKED, {"labels": list(labels), "items": items})

    made_whole(folder, make)
    return names


def _write_tasks(path: Path, tasks: Sequence[Task], format: Format) -> None:
    if format == "csv":
        write_table(path, ["id", "text", "label"], [(task.id, task.text, "") for task in tasks])
    elif format == "jsonl":
        write_lines(path, [{"id": task.id, "text": task.text, "label": None} for task in tasks])
    else:
        write_json(path, studio_tasks(tasks))


def read_asked(folder: Path) -> Asked | None:
    """What the export in a folder asked for; None if there was none. Raises BadArtifact for a damaged `asked.json`."""
    path = folder / ASKED
    if not path.is_file():
        return None
    try:
        read = read_json(path)
        items = read["items"]
        texts = {item["id"]: item["text"] for item in items}
        return Asked(tuple(read["labels"]), texts, {item["id"]: item["group"] for item in items})
    except (ValueError, KeyError, TypeError) as error:
        raise BadArtifact(f"damaged: {error!r}", where=str(path)) from error
