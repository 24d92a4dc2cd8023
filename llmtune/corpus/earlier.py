"""The splits that documents stood in before: those of an earlier corpus keep theirs when others are added."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.artifacts import STORE
from llmtune.corpus.drops import BETWEEN
from llmtune.corpus.duplicates import Entry, group_alone
from llmtune.corpus.store import SPLITS, shards_of
from llmtune.errors import BadArtifact


@dataclass(frozen=True)
class Earlier:
    """The splits of an earlier corpus. by_hash: of its documents; by_id: the same with their hashes, for an edit, or a
    clean-up that looks at the whole source, can give a document another hash."""

    by_hash: dict[str, str] = field(default_factory=dict)
    by_id: dict[str, tuple[str, str]] = field(default_factory=dict)


class Placed:
    """Which of the documents of a corpus, as they are now, stood in an earlier one."""

    def __init__(self, earlier: Earlier, entries: Iterable[Entry]) -> None:
        # An id says nothing where its text has another by now, as in a file that grew at its beginning.
        present = {entry.sha256 for entry in entries}
        self._by_hash = earlier.by_hash
        self._by_id = {id: split for id, (sha256, split) in earlier.by_id.items() if sha256 not in present}

    def by_hash(self, entry: Entry) -> str | None:
        """The split that the text stood in."""
        return self._by_hash.get(entry.sha256)

    def split_of(self, entry: Entry) -> str | None:
        """The split that a document stood in; None: it is new."""
        return self.by_hash(entry) or self._by_id.get(entry.id)

    def is_old(self, entry: Entry) -> bool:
        """Whether it stood in the earlier corpus."""
        return self.split_of(entry) is not None


def splits_of(path: Path) -> Earlier:
    """The splits of a corpus folder, or of the corpus that a run made from its documents.

    Raises BadArtifact when `path` is neither, or is damaged."""
    corpus, found = _corpus_at(path), Earlier()
    for split in SPLITS:
        for shard in shards_of(corpus, split):
            try:
                table = pq.read_table(shard, columns=["sha256", "id"])
            except (OSError, pa.ArrowException) as error:
                raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error
            for sha256, id in zip(table["sha256"].to_pylist(), table["id"].to_pylist(), strict=True):
                found.by_hash[sha256] = split
                found.by_id[id] = sha256, split
    return found


def keep_splits(entries: Sequence[Entry], placed: Placed, settled: bool = True) -> dict[str, str]:
    """group → split, for the groups with documents of the earlier corpus.

    A new document that is near-duplicate to documents of two splits would be a leak on either side: it is dropped, and
    the others' group is parted. Where ids and texts tell of different splits, the texts do, unless they are not
    `settled` yet. Changes `entries`."""
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[entry.group].append(entry)
    found: dict[str, str] = {}
    for group, of_group in members.items():
        left = [entry for entry in of_group if entry.left_out is None]
        known = [(entry, split) for entry in left if (split := placed.split_of(entry))]
        if settled and len({split for _, split in known}) > 1:
            known = [(entry, split) for entry in left if (split := placed.by_hash(entry))] or known
        splits = sorted({split for _, split in known})
        if len(splits) == 1:
            found[group] = splits[0]
        elif splits:
            names = {
                split: min(group_alone(entry.sha256) for entry, of_entry in known if of_entry == split)
                for split in splits
            }
            for entry in of_group:
                entry.group = group_alone(entry.sha256)
            for entry, split in known:
                entry.group = names[split]
            stays = {id(entry) for entry, _ in known}
            for entry in left:
                if id(entry) not in stays:
                    entry.left_out = (BETWEEN, f"like documents of {' and '.join(splits)}")
            found |= {name: split for split, name in names.items()}
    return found


def _corpus_at(path: Path) -> Path:
    """A corpus folder, or the artifact that the corpus stage of a run folder points at (llmtune/run/folder.py)."""
    if (path / "card.json").is_file():
        return path
    for record in sorted(path.glob("*/stage.json")):
        try:
            told = json.loads(record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadArtifact(f"damaged record of a stage: {error}", where=str(record)) from error
        if not isinstance(told, dict):
            raise BadArtifact("damaged record of a stage: it is no object", where=str(record))
        stores = (folder / STORE for folder in Path(os.path.abspath(path)).parents)
        corpus = next(filter(Path.is_dir, stores), path.parent / STORE) / str(told.get("artifact"))
        if told.get("kind") == "corpus" and (corpus / "card.json").is_file():
            return corpus
    raise BadArtifact(
        "is no corpus, nor a run that made one",
        where=str(path),
        fix="name the folder of an earlier run, or of a corpus (it holds card.json)",
    )
