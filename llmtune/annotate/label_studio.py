"""Label Studio's files: the tasks and the labelling configuration that it imports, and the JSON that it exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from llmtune.annotate.rows import Row
from llmtune.annotate.tasks import Task
from llmtune.errors import LlmtuneError
from llmtune.words import printable, visible


def studio_tasks(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Tasks as Label Studio imports them. Our id is `document`: `id` is its own in some of its exports."""
    return [{"data": {"document": task.id, "text": task.text}} for task in tasks]


def studio_config(labels: Sequence[str]) -> str:
    """The labelling configuration (XML): the text, and a choice of one label."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Text", name="text", value="$text")
    choices = ElementTree.SubElement(
        view, "Choices", name="label", toName="text", choice="single", showInLine="true", required="true"
    )
    for label in labels:
        ElementTree.SubElement(choices, "Choice", value=label)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def studio_rows(path: str, tasks: Sequence[Any]) -> Iterator[Row]:
    """One row an annotation of Label Studio's JSON export, or one without a label where there is none. A skipped task
    (`was_cancelled`) is not labelled. Raises LlmtuneError for a task of another kind."""
    for number, task in enumerate(tasks, 1):
        where = f"task {number}"
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("document"), str):
            raise LlmtuneError(
                "has no data.document, the id of what was labelled",
                where=f"{path}, {where}",
                fix="import into Label Studio what `llmtune annotate export --format label-studio` wrote",
            )
        text = data.get("text")
        shared: dict[str, Any] = {
            "where": where,
            "id": printable(data["document"]),
            "text": printable(text) if isinstance(text, str) else None,
        }
        annotations = task.get("annotations") or [{}]
        if not isinstance(annotations, list):
            raise LlmtuneError("is not as Label Studio exports it: no list of annotations", where=f"{path}, {where}")
        for annotation in annotations:
            try:
                label, annotator = _choice(annotation, f"{path}, {where}"), _person(annotation)
            except (AttributeError, TypeError) as error:
                raise LlmtuneError(f"is not as Label Studio exports it: {error}", where=f"{path}, {where}") from error
            yield Row(label=label, annotator=annotator, **shared)


def _choice(annotation: dict[str, Any], where: str) -> str | None:
    if annotation.get("was_cancelled"):
        return None
    results = (one for one in annotation.get("result") or () if one.get("type") == "choices")
    chosen = [choice for one in results for choice in one.get("value", {}).get("choices", ())]
    if len(chosen) > 1:
        raise LlmtuneError(
            f"has several labels: {visible(', '.join(map(str, chosen)))}", where=where, fix="choose one label a task"
        )
    return visible(str(chosen[0]).strip()) if chosen else None


def _person(annotation: dict[str, Any]) -> str | None:
    """Who labelled: an e-mail address or a number, as the export has it."""
    person = annotation.get("completed_by")
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return None if person is None else visible(str(person))
