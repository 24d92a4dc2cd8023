"""What making pairs will need, from the tokens of the corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmtune.augment.instruct.endpoint import key_of
from llmtune.augment.instruct.settings import InstructSettings, Rule
from llmtune.corpus.estimate import CHARACTERS_PER_TOKEN
from llmtune.corpus.mixture import MOST_REPEATS
from llmtune.errors import LlmtuneError

# Measured on the manuals of docs/instruct.md.
_GIVEN: dict[Rule, float] = {"headings": 0.11, "definitions": 0.06, "code": 0.01}  # characters of pairs, a character
_PAIR: dict[Rule, int] = {"headings": 400, "definitions": 205, "code": 250}  # characters
_PASSAGE, _DOCUMENT = 1_500, 6_000  # characters of a passage that is sent; of a document
_GENERATED = 300  # characters of a pair that a model writes
_READ = 1_000_000.0  # characters a second
_SHEETS = 1.0  # bytes of the work folder, a character
_PROCESS_BYTES = 150 << 20  # Python with pyarrow, and a shard as it is written
_PAIR_BYTES = 400  # of a draft: its question and answer are remembered by their hashes
_WRITTEN = 8  # bytes in memory for a character of the shard that is written
_SHARD_CHARACTERS = 64_000_000


@dataclass(frozen=True)
class Estimate:
    """tokens: of the pairs, by split; memory, work: bytes; seconds: None where it is not known."""

    tokens: dict[str, int]
    memory: int
    work: int
    seconds: float | None
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def estimate(settings: InstructSettings, tokens: Mapping[str, int]) -> Estimate:
    """Reckon from the tokens of each split."""
    given = sum(_GIVEN[rule] for rule in settings.rules)
    found = {split: round(count * given) for split, count in tokens.items()}
    characters = round(sum(tokens.values()) * CHARACTERS_PER_TOKEN)
    pairs = round(sum(characters * _GIVEN[rule] / _PAIR[rule] for rule in settings.rules))
    problems: list[str] = []
    notes = [
        f"about {pairs:,} pairs, as manuals give them; other texts may give fewer, and no document gives more than "
        f"{settings.pairs_per_document}"
    ]
    if settings.generate is not None:
        generate = settings.generate
        try:
            key_of(generate)
        except LlmtuneError as error:
            problems.append(str(error))
        passages = round(characters * min(1 / _PASSAGE, generate.passages_per_document / _DOCUMENT))
        more = passages * generate.pairs_per_passage
        pairs += more
        for split, count in tokens.items():
            found[split] += round(more * _GENERATED / CHARACTERS_PER_TOKEN * count / max(sum(tokens.values()), 1))
        notes.append(
            f"about {passages:,} passages go to {generate.url}, a request each; how long that takes is not known"
        )
    if settings.share is not None and "train" in found:
        wanted = settings.share / (1 - settings.share) * tokens["train"]
        most = round(MOST_REPEATS * found["train"])
        if wanted > most:
            notes.append("these may be too few for `share`, also where they are read four times an epoch")
        found["train"] = min(round(wanted), most)
    written = min(2 * characters, _SHARD_CHARACTERS)
    return Estimate(
        found,
        _PROCESS_BYTES + _PAIR_BYTES * 2 * pairs + _WRITTEN * written,
        round(_SHEETS * characters),
        2 + characters / _READ if settings.generate is None else None,
        tuple(notes),
        tuple(problems),
    )
