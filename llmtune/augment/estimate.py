"""What back-translation will need here, from the size of the corpus and of the translator."""

from __future__ import annotations

from dataclasses import dataclass

from llmtune.augment.settings import BackTranslateSettings, TranslationModels
from llmtune.corpus.estimate import CHARACTERS_PER_TOKEN, tokens_of
from llmtune.errors import LlmtuneError
from llmtune.extras import have, missing
from llmtune.machine import Machine

# Measured with docs/back-translation.md's corpus and machine.
_PROCESS_BYTES = 150 << 20  # Python with pyarrow and sacrebleu, and a shard as it is written
_FILTER_BYTES = 205 << 20  # both directions of Apertium's eng-spa, two dozen small programs
_WRITTEN = 8  # bytes in memory for a character of the shard that is written
_SHARD_CHARACTERS = 64_000_000
_LIBRARIES = 450 << 20  # torch and transformers
_PROSE = 0.76  # of the characters of a technical text are sentences, 105 characters each
_SENTENCE = 105
_APERTIUM_SENTENCES = 250.0  # a second and core
_LOOKED_AT = 350_000.0  # characters a second that are cut into sentences, masked and judged
_MEMORY_BYTES = 3.3  # of the translation memory on disk, for a character of prose


@dataclass(frozen=True)
class Estimate:
    """tokens: of the new texts; memory, work: bytes; seconds: None where it is not known."""

    tokens: int
    memory: int
    work: int
    seconds: float | None
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def estimate(settings: BackTranslateSettings, train_tokens: int, machine: Machine) -> Estimate:
    """Look at the translator's headers or files, and reckon from `train_tokens`."""
    characters = round(settings.share * train_tokens * CHARACTERS_PER_TOKEN)
    if settings.max_characters is not None:
        characters = min(characters, settings.max_characters)
    prose = round(_PROSE * characters)
    problems = [] if have("sacrebleu") else [str(missing("sacrebleu", "judging translations"))]
    written = round(train_tokens * CHARACTERS_PER_TOKEN) + characters
    memory = _PROCESS_BYTES + _WRITTEN * min(written, _SHARD_CHARACTERS)
    seconds: float | None = None
    if settings.models is None:
        from llmtune.augment.apertium import problems_of

        problems += map(str, problems_of(settings.language, settings.pivot))
        memory += _FILTER_BYTES
        rate = _APERTIUM_SENTENCES * min(machine.cores, 2)
        seconds = 2 + prose / _SENTENCE / rate + characters / _LOOKED_AT
    else:
        more, weights = _models(settings.models, machine)
        problems += more
        memory += _LIBRARIES + weights
    tokens = tokens_of(characters)
    notes = (
        f"about {prose // _SENTENCE:,} sentences to translate; the train split grows by about {tokens:,} tokens, so an "
        "epoch of training grows with it",
    )
    return Estimate(tokens, memory, round(_MEMORY_BYTES * prose), seconds, notes, tuple(problems))


def _models(models: TranslationModels, machine: Machine) -> tuple[list[str], int]:
    """What keeps the models from translating here, and the bytes of their weights in the main memory."""
    from llmtune.augment.seq2seq import shapes_of

    problems = [] if have("sentencepiece") else [str(missing("sentencepiece", "translating by models"))]
    try:
        shapes = shapes_of(models)
    except LlmtuneError as error:
        return [*problems, str(error)], 0
    width = 2 if machine.computes_in_bf16 else 4
    return problems, sum(max(shape.bytes, width * shape.parameters) for shape in shapes)
