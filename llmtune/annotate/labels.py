"""The labels of several files and annotators together, checked against what was asked."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmtune.annotate.export import ASKED, Asked, read_asked
from llmtune.annotate.reading import read_rows
from llmtune.annotate.rows import Row
from llmtune.annotate.tasks import text_hash
from llmtune.errors import LlmtuneError
from llmtune.words import visible

_NAMED = 5  # ids in a message


@dataclass
class Labels:
    """What people said. names: the labels, in the order asked for, else sorted. votes: label by annotator of each id
    that somebody labelled, in the order of the files. notes: what was passed over or odd, a sentence each."""

    names: list[str] = field(default_factory=list)
    votes: dict[str, dict[str, str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def annotators(self) -> list[str]:
        """Who labelled something, sorted."""
        return sorted({annotator for votes in self.votes.values() for annotator in votes})

    def single(self) -> dict[str, str]:
        """The label of each id where there is one annotator; raises LlmtuneError where there are several."""
        if len(annotators := self.annotators) > 1:
            raise LlmtuneError(
                f"{len(annotators)} annotators labelled it: {', '.join(annotators[:_NAMED])}",
                fix="make one label of theirs first: llmtune annotate merge FILES… OUT",
            )
        return {id: label for id, votes in self.votes.items() for label in votes.values()}


def read_labels(paths: Sequence[Path], export: Path | None = None) -> Labels:
    """The labels of files. Each is checked against `asked.json` of the export folder given, else of its own folder,
    if there is one. Where a file does not say who labelled, the annotator is the file's name.

    Raises LlmtuneError for labels and ids that were not asked for, and for two labels of one annotator for one id.
    """
    if export is not None and not (export / ASKED).is_file():
        raise LlmtuneError(f"holds no {ASKED}", where=str(export), fix="name the folder that `annotate export` wrote")
    labels = Labels()
    changed: dict[str, str] = {}
    for path, name in zip(paths, _names(paths), strict=True):
        asked = read_asked(path.parent if export is None else export)
        rows = read_rows(path)
        if asked is not None:
            _check(path, rows, asked, labels)
            labels.groups.update((row.id, asked.groups[row.id]) for row in rows)
        _take_in(path, name, rows, asked, labels, changed)
    if changed:
        note_ids(labels, "the text was changed since the export, or differs between files", list(changed))
    labels.texts = {**changed, **labels.texts}
    found = {label for votes in labels.votes.values() for label in votes.values()}
    labels.names += sorted(found - set(labels.names))
    if not labels.votes:
        raise LlmtuneError(
            "nothing is labelled yet", where=", ".join(map(str, paths)), fix="fill in the column `label`"
        )
    return labels


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its stem, or its whole path where two stems are the same. Raises for a file named twice."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise LlmtuneError("a file is named twice", where=", ".join(map(str, paths)), fix="name each file once")
    stems = Counter(path.stem for path in paths)
    return [visible(path.stem if stems[path.stem] == 1 else path.as_posix()) for path in paths]


def _check(path: Path, rows: Sequence[Row], asked: Asked, labels: Labels) -> None:
    """Ids and labels are such as were asked for; raises LlmtuneError that names those that are not."""
    strange = list(dict.fromkeys(row.id for row in rows if row.id not in asked.texts))
    if strange:
        raise LlmtuneError(
            f"{len(strange)} of its ids were not exported: {_some(strange)}",
            where=str(path),
            fix="name the folder of its own export with --export, or mend the ids",
        )
    wrong = Counter(row.label for row in rows if row.label is not None and row.label not in asked.labels)
    if wrong:
        said = []
        for label, times in wrong.most_common():
            near = difflib.get_close_matches(str(label).lower(), asked.labels, 1)
            first = next(row.where for row in rows if row.label == label)
            said.append(f"'{label}' ({times} times, first in {first})" + (f", is it '{near[0]}'?" if near else ""))
        raise LlmtuneError(
            f"has labels that were not asked for: {'; '.join(said)}",
            where=str(path),
            fix=f"the labels are: {', '.join(asked.labels)}",
        )
    labels.names += [label for label in asked.labels if label not in labels.names]
    if missing := sorted(set(asked.texts) - {row.id for row in rows}):
        note_ids(labels, f"{path}: {len(missing)} of {len(asked.texts)} exported documents are not in it", missing)


def _take_in(
    path: Path, name: str, rows: Sequence[Row], asked: Asked | None, labels: Labels, changed: dict[str, str]
) -> None:
    """Add the rows of one file. changed: texts that are not those exported, or not those of an earlier file."""
    unlabelled: list[str] = []
    repeated: list[str] = []
    for row in rows:
        if row.group is not None:
            labels.groups.setdefault(row.id, row.group)
        if row.label is None:
            unlabelled.append(row.id)
            continue
        if row.text is not None:
            known = asked.texts[row.id] if asked else text_hash(labels.texts.get(row.id, row.text))
            fits = text_hash(row.text) == known
            (labels.texts if fits else changed).setdefault(row.id, row.text)
        votes = labels.votes.setdefault(row.id, {})
        annotator = row.annotator or name
        if annotator in votes:
            repeated.append(row.id)
        if (earlier := votes.setdefault(annotator, row.label)) != row.label:
            raise LlmtuneError(
                f"{annotator} labelled {visible(row.id)} twice, as '{earlier}' and as '{row.label}'",
                where=f"{path}, {row.where}",
                fix="keep one of the two",
            )
    if unlabelled:
        note_ids(labels, f"{path}: {len(unlabelled)} of {len(rows)} rows are not labelled", unlabelled)
    if repeated:
        note_ids(labels, f"{path}: {len(repeated)} rows say again what the annotator said before", repeated)


def note_ids(labels: Labels, what: str, ids: list[str]) -> None:
    """Add a note that names the first few ids."""
    labels.notes.append(f"{visible(what)}: {_some(ids)}")


def _some(ids: list[str]) -> str:
    return visible(", ".join(ids[:_NAMED])) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
