"""The splits that documents stood in before: those of an earlier corpus keep theirs when others are added."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.drops import BETWEEN
from llmtune.corpus.duplicates import Entry, group_alone
from llmtune.corpus.store import SPLITS, shards_of
from llmtune.errors import BadArtifact


@dataclass(frozen=True)
class Earlier:
    """The splits of an earlier corpus, by the hash of a document and by its id: a clean-up that looks at the whole
    source, or an edit, can give a document another hash."""

    by_hash: dict[str, str] = field(default_factory=dict)
    by_id: dict[str, str] = field(default_factory=dict)

    def split_of(self, entry: Entry) -> str | None:
        """The split that a document stood in; None: it is new."""
        return self.by_hash.get(entry.sha256) or self.by_id.get(entry.id)


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
            found.by_hash.update(dict.fromkeys(table["sha256"].to_pylist(), split))
            found.by_id.update(dict.fromkeys(table["id"].to_pylist(), split))
    return found


def keep_splits(entries: list[Entry], earlier: Earlier) -> dict[str, str]:
    """group → split, for the groups with documents of the earlier corpus.

    A new document that is near-duplicate to documents of two splits would be a leak on either side: it is dropped, and
    the others' group is parted. Changes `entries`."""
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[entry.group].append(entry)
    placed: dict[str, str] = {}
    for group, of_group in members.items():
        known = [(entry, split) for entry in of_group if (split := earlier.split_of(entry))]
        splits = sorted({split for _, split in known})
        if len(splits) == 1:
            placed[group] = splits[0]
        elif splits:
            for entry in of_group:
                entry.left_out = entry.left_out or (BETWEEN, f"like documents of {' and '.join(splits)}")
            for entry, split in known:
                entry.group = min(group_alone(other.sha256) for other, of_other in known if of_other == split)
                entry.left_out = None  # they stood beside each other before; a new one is no reason to drop them
                placed[entry.group] = split
    return placed


def _corpus_at(path: Path) -> Path:
    """A corpus folder, or the artifact that the corpus stage of a run folder points at (llmtune/run/folder.py)."""
    if (path / "card.json").is_file():
        return path
    for record in sorted(path.glob("*/stage.json")):
        try:
            told = json.loads(record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadArtifact(f"damaged record of a stage: {error}", where=str(record)) from error
        corpus = path.parent / ".artifacts" / str(told.get("artifact"))
        if told.get("kind") == "corpus" and (corpus / "card.json").is_file():
            return corpus
    raise BadArtifact(
        "is no corpus, nor a run that made one",
        where=str(path),
        fix="name the folder of an earlier run, or of a corpus (it holds card.json)",
    )
