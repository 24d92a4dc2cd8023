"""The settings of back-translation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from llmtune.models.reference import NamedModel
from llmtune.settings import Settings


class TranslationModels(Settings):
    """Sequence-to-sequence models of transformers, as translators."""

    forward: NamedModel = Field(
        description="Translates to the pivot language: a hub id (`Helsinki-NLP/opus-mt-en-es`) or a folder. "
        "Safetensors only, never pickles."
    )
    backward: NamedModel | None = Field(
        None, description="Translates back; default: `forward`, for a model of many languages (NLLB, M2M100, mBART)."
    )
    beams: int = Field(1, ge=1, le=16, description="Beams of the search; 1: the likeliest token at each step.")
    batch: int = Field(32, ge=1, description="Sentences translated at a time.")


class KeepSettings(Settings):
    """Which translated sentences, and which texts of them, are good enough."""

    min_similarity: float = Field(
        0.6, ge=0, le=1, description="chrF (0 to 1) to the original below which a sentence has lost its meaning."
    )
    max_similarity: float = Field(
        0.95, ge=0, le=1, description="chrF above which nothing is gained: the sentence came back as it was."
    )
    max_length_ratio: float = Field(
        1.5, ge=1, description="Most that a sentence may be longer or shorter than its original, as a ratio."
    )
    max_unknown: float = Field(
        0.15, ge=0, le=1, description="Largest share of words that the translator may not know (Apertium marks them)."
    )
    min_changed: float = Field(
        0.3, ge=0, le=1, description="Share of a text's sentences that must have become others for it to be added."
    )

    @model_validator(mode="after")
    def _is_a_window(self) -> Self:
        if self.min_similarity >= self.max_similarity:
            raise ValueError(
                f"min_similarity ({self.min_similarity}) must be below max_similarity ({self.max_similarity})"
            )
        return self


class BackTranslateSettings(Settings):
    """Everything `back_translate` is told."""

    engine: Literal["apertium", "models"] = Field(
        "apertium",
        description="apertium: by rule, with an installed language pair; models: by the models under `models`.",
    )
    language: str = Field(
        "en", min_length=2, description="Language of the corpus, as the engine calls it: en or eng; eng_Latn for NLLB."
    )
    pivot: str = Field(
        "es", min_length=2, description="Language to go through, as the engine calls it: es or spa; spa_Latn for NLLB."
    )
    models: TranslationModels | None = Field(None, description="The translators, for `engine: models`.")
    share: float = Field(
        1.0, gt=0, le=1, description="Share of the characters of the train split's texts to translate."
    )
    max_characters: int | None = Field(
        None, ge=1, description="Most characters to translate; default: no limit but `share`."
    )
    keep: KeepSettings = Field(default_factory=KeepSettings, description="The quality gate.")
    samples: int = Field(
        12,
        ge=0,
        description="How many texts, kept sentences and dropped ones to show in the report; 0 leaves all text out.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.engine == "models") != (self.models is not None):
            raise ValueError(
                "engine: models needs `models: {forward: …}`"
                if self.models is None
                else "`models` is for engine: models; apertium has its own data"
            )
        if self.language == self.pivot:
            raise ValueError(f"pivot is the corpus' own language ({self.pivot})")
        return self
