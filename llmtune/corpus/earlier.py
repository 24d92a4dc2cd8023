"""The splits that documents stood in before: those of an earlier corpus keep theirs when others are added."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.drops import BETWEEN
from llmtune.corpus.duplicates import Entry
from llmtune.corpus.store import SPLITS
from llmtune.errors import BadArtifact


def splits_of(path: Path) -> dict[str, str]:
    """sha256 → split of the documents of a corpus folder, or of the corpus that a run made from its documents.

    Raises BadArtifact when `path` is neither, or is damaged."""
    corpus, found = _corpus_at(path), {}
    for split in SPLITS:
        for shard in sorted((corpus / split).glob("*.parquet")):
            try:
                hashes = pq.read_table(shard, columns=["sha256"])["sha256"].to_pylist()
            except (OSError, pa.ArrowException) as error:
                raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error
            found.update(dict.fromkeys(hashes, split))
    return found


def keep_splits(entries: list[Entry], earlier: dict[str, str]) -> dict[str, str]:
    """group → split, for the groups with documents of the earlier corpus.

    A new document that is near-duplicate to documents of two splits would be a leak on either side: it is dropped, and
    the others' group is parted. Changes `entries`."""
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[entry.group].append(entry)
    placed: dict[str, str] = {}
    for group, of_group in members.items():
        splits = sorted({earlier[entry.sha256] for entry in of_group if entry.sha256 in earlier})
        if len(splits) == 1:
            placed[group] = splits[0]
        elif splits:
            for entry in of_group:
                if entry.sha256 in earlier:
                    split = earlier[entry.sha256]
                    entry.group = min(other.group_alone for other in of_group if earlier.get(other.sha256) == split)
                    placed[entry.group] = split
                elif entry.left_out is None:
                    entry.left_out = (BETWEEN, f"like documents of {' and '.join(splits)}")
    return placed


def _corpus_at(path: Path) -> Path:
    """A corpus folder, or the artifact that the corpus stage of a run folder points at (llmtune/run/folder.py)."""
    if (path / "card.json").is_file():
        return path
    for record in sorted(path.glob("*/stage.json")):
        told = json.loads(record.read_text(encoding="utf-8"))
        corpus = path.parent / ".artifacts" / str(told.get("artifact"))
        if told.get("kind") == "corpus" and (corpus / "card.json").is_file():
            return corpus
    raise BadArtifact(
        "is no corpus, nor a run that made one",
        where=str(path),
        fix="name the folder of an earlier run, or of a corpus (it holds card.json)",
    )
