"""The `corpus` stage: documents from files → a clean, de-duplicated, split corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from llmtune.artifacts import Artifact
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.version import VERSION
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, Plan, Stage

# Measured on one core of the machine of docs/corpus.md: 6.9 MB of text from 18 MB of HTML.
_FILE_BYTES_PER_SECOND = 5e6
_CHARACTERS_PER_SECOND = 4e6
_PROCESS_BYTES = 220 << 20  # Python with pyarrow and numpy
_WORKER_BYTES = 250 << 20  # with what the filters look with, and a portion's texts
_DOCUMENT_BYTES = 2300  # entry, signature (twice while they are put together)
_CHARACTERS_A_BYTE = 6  # paragraphs that documents may share, about 300 characters each: 48 bytes to compare them
_COMPRESSED = 0.4  # bytes of zstd Parquet per character of text


class CorpusStage(Stage, CorpusSettings):
    """Read documents, clean them, drop duplicates, and split them into train, valid and test."""

    kind: ClassVar[str] = "corpus"
    makes: ClassVar[str] = "corpus"
    version: ClassVar[int] = VERSION
    not_identity: ClassVar[frozenset[str]] = Stage.not_identity | {"engine", "workers", "reuse"}

    def identity(self) -> dict[str, Any]:
        from llmtune.corpus.earlier import splits_of
        from llmtune.corpus.sources import identity_of
        from llmtune.files import fingerprint

        identity = super().identity() | {"sources": identity_of(self.sources), "known": identity_of(self.known_sources)}
        if self.decontaminate is not None:
            identity["decontaminate"]["against"] = identity_of(self.decontaminate.sources)
        if self.filters.relevance is not None:
            for setting, sources in self.filters.relevance.sources.items():
                identity["filters"]["relevance"][setting] = identity_of(sources)
        if self.filters.perplexity is not None:
            from llmtune.models.find import identity as identity_of_model

            identity["filters"]["perplexity"]["model"] = identity_of_model(self.filters.perplexity.model)
        if self.split.earlier is not None:
            identity["split"]["earlier"] = fingerprint(asdict(splits_of(self.split.earlier)))
        return identity

    def described(self, identity: dict[str, Any]) -> dict[str, Any]:
        """With a digest in the place of the files' names and hashes: the names of private documents do not travel with
        every model made from them, and a corpus may have millions."""
        from llmtune.files import fingerprint

        def nameless(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [source | {"contents": fingerprint(source["contents"])} for source in sources]

        described = identity | {name: nameless(identity[name]) for name in ("sources", "known")}
        if (kept_out := identity["decontaminate"]) is not None:
            described["decontaminate"] = kept_out | {"against": nameless(kept_out["against"])}
        if self.filters.relevance is not None:
            relevance = identity["filters"]["relevance"]
            named = {setting: nameless(relevance[setting]) for setting in self.filters.relevance.sources}
            described["filters"] = identity["filters"] | {"relevance": relevance | named}
        return described

    def held_out(self, split: str) -> float | None:
        return {"valid": self.split.valid, "test": self.split.test}.get(split)

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        from llmtune.corpus.engine import workers_for
        from llmtune.corpus.estimate import estimate, reading_estimate
        from llmtune.corpus.mixture import characters_read
        from llmtune.corpus.store import CHARACTERS_PER_SHARD

        found = estimate(self)
        held_out = {"valid": self.split.valid, "test": self.split.test}
        tokens_of = found.tokens / max(found.characters, 1)
        characters = {
            name: min(share * found.characters, self.split.max_characters) for name, share in held_out.items()
        }
        mixed = characters_read(found.by_source, self) / max(found.characters, 1)
        characters = {"train": mixed * (found.characters - sum(characters.values())), **characters}
        size = round(_COMPRESSED * found.characters)
        makes = Forecast(
            kind="corpus",
            bytes=size,
            tokens={name: round(tokens_of * count) for name, count in characters.items()},
        )
        seconds = found.file_bytes / _FILE_BYTES_PER_SECOND + found.characters / _CHARACTERS_PER_SECOND
        read = reading_estimate(self.filters.perplexity, found, machine) if self.filters.perplexity else None
        written = min(found.characters, CHARACTERS_PER_SHARD)
        workers = workers_for(self.workers, found.file_bytes) if self.engine == "native" else 0
        return Plan(
            makes=makes,
            memory=(read.memory if read is not None else _PROCESS_BYTES)
            + (workers * _WORKER_BYTES if workers > 1 else 0)
            + _DOCUMENT_BYTES * found.documents
            + found.characters // _CHARACTERS_A_BYTE
            + 5 * found.largest
            + 3 * 4 * written,
            disk=3 * size + found.spool,  # as read, as judged, in the splits
            # One file is read by one process, but for large ones of records.
            seconds=2
            + (read.seconds if read is not None else 0)
            + max(seconds / max(1, workers), found.largest / max(1, found.file_bytes) * seconds),
            notes=(
                f"about {found.documents:,} documents, {found.characters:,} characters, {found.tokens:,} tokens "
                "(estimated from file sizes and a few files, before duplicates are dropped)",
            ),
            problems=tuple(found.problems),
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from llmtune.corpus.build import build_corpus

        return build_corpus(self, context.output, context.work, context.seed, context.monitor, context.cache)
