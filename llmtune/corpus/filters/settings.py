"""What a person says about the filters of a corpus. Imports nothing heavy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from llmtune.corpus.filters.expression import compiled
from llmtune.models.reference import NamedModel
from llmtune.settings import RecipePath, Settings

if TYPE_CHECKING:
    from llmtune.corpus.settings import Source

# ISO 639 codes that py3langid tells apart, but zxx (no language).
_CODES = """
ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv
fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la
lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se
si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu
"""
LANGUAGES = tuple(_CODES.split())


def _known_language(code: str) -> str:
    if code in LANGUAGES:
        return code
    near = re.split("[-_]", code.lower())[0]  # en-GB
    advice = f"; did you mean '{near}'?" if near in LANGUAGES else ": en, de, zh and so on"
    raise ValueError(f"'{code}' is not the ISO 639 code of a language that can be told{advice}")


def _rule(text: str) -> str:
    compiled(text)
    return text


class LanguageSettings(Settings):
    """Languages to keep. Fenced code, addresses, and lines that are more signs than words have no part in it."""

    keep: list[Annotated[str, AfterValidator(_known_language)]] = Field(
        min_length=1, description="ISO 639 codes of the languages to keep, for example [en, de]."
    )
    min_probability: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="A document whose likeliest language is another one is dropped when the probability of these "
        "languages together is lower.",
    )
    min_characters: int = Field(
        100,
        ge=20,
        description="A document with less prose than this is kept without being judged. One of scripts without spaces "
        "says as much in half the characters.",
    )


class LengthSettings(Settings):
    """How long a document may be. The defaults are those of Gopher (Rae et al. 2021)."""

    min_words: int | None = Field(50, ge=1, description="Documents with fewer words are dropped; null: no bound.")
    max_words: int | None = Field(100_000, ge=1, description="Documents with more words are dropped; null: no bound.")
    max_characters: int | None = Field(
        None, ge=1, description="Documents with more characters are dropped; null: no bound."
    )

    @model_validator(mode="after")
    def _leaves_some(self) -> LengthSettings:
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(
                f"no document has {self.min_words} words or more and {self.max_words} or fewer: exchange min_words and "
                "max_words"
            )
        return self


class QualitySettings(Settings):
    """Whether a document looks like prose. The defaults are those of Gopher (Rae et al. 2021); null switches a rule
    off. Fenced code, table rules and heading marks are left out of it."""

    min_word_length: float | None = Field(3, ge=0, description="Smallest mean length of the words, in characters.")
    max_word_length: float | None = Field(10, ge=1, description="Largest mean length of the words, in characters.")
    max_symbols: float | None = Field(0.1, ge=0, description="Most hash signs, and most ellipses, per word.")
    max_digits: float | None = Field(None, ge=0, le=1, description="Largest share of digits among the characters.")
    max_bullet_lines: float | None = Field(
        0.9, ge=0, le=1, description="Largest share of lines that start with a bullet."
    )
    max_ellipsis_lines: float | None = Field(
        0.3, ge=0, le=1, description="Largest share of lines that end with an ellipsis."
    )
    min_alphabetic: float | None = Field(
        0.8, ge=0, le=1, description="Smallest share of words that hold at least one letter."
    )
    min_stop_words: int | None = Field(2, ge=1, description="How many different stop words a document must hold.")
    stop_words: list[str] | None = Field(
        None,
        min_length=1,
        description="The stop words; default: Gopher's eight of English and as many of 35 other languages, of which "
        "those of one language must be found. Not asked of scripts without spaces, nor of those that none of these "
        "languages is written in.",
    )


class RepetitionSettings(Settings):
    """How much of a document may repeat itself. The defaults are those of Gopher (Rae et al. 2021, table A1); null, or
    a length left out, switches a rule off. Fenced code, table rules and heading marks are left out of it."""

    duplicate_lines: float | None = Field(0.3, ge=0, le=1, description="Largest share of lines that are copies.")
    duplicate_paragraphs: float | None = Field(
        0.3, ge=0, le=1, description="Largest share of paragraphs that are copies."
    )
    duplicate_line_characters: float | None = Field(
        0.2, ge=0, le=1, description="Largest share of characters in lines that are copies."
    )
    duplicate_paragraph_characters: float | None = Field(
        0.2, ge=0, le=1, description="Largest share of characters in paragraphs that are copies."
    )
    top_sequences: dict[Annotated[int, Field(ge=1, le=20)], Annotated[float, Field(ge=0, le=1)]] = Field(
        {2: 0.2, 3: 0.18, 4: 0.16},
        description="Words in a row → largest share of characters in the most frequent sequence of that length.",
    )
    repeated_sequences: dict[Annotated[int, Field(ge=1, le=20)], Annotated[float, Field(ge=0, le=1)]] = Field(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
        description="Words in a row → largest share of characters in sequences of that length seen before.",
    )


class SentenceSettings(Settings):
    """Whether a document has sentences at all: the rules of C4 (Raffel et al. 2020) that make sense for a domain."""

    min_sentences: int | None = Field(
        5,
        ge=1,
        description="Documents with fewer ends of sentences (. ! ? after a word) are dropped; null: do not count.",
    )
    min_words: int = Field(3, ge=1, description="Paragraphs with fewer words have no sentences.")
    lorem_ipsum: bool = Field(True, description="Drop documents with the filler text 'lorem ipsum'.")
    curly_brackets: bool = Field(
        False, description="Drop documents with a curly bracket outside fenced code, as C4 does to avoid code."
    )


class RelevanceSettings(Settings):
    """Keep what is like documents of yours: hashed words and pairs of words, their frequency in the seeds against that
    in everything (the importance weights of Xie et al. 2023, a word)."""

    seeds: RecipePath = Field(
        description="A file, folder or glob with documents of the domain, in any format that a source can have."
    )
    general: Literal["sources"] | RecipePath = Field(
        "sources",
        description="What the seeds are compared with: a sample of the sources themselves, or a file, folder or glob "
        "with text that is not of the domain, for sources that are nearly all of the domain.",
    )
    keep_seeds: float = Field(
        0.95,
        gt=0,
        le=1,
        description="The score asked for is the one that this share of the seeds reach, each scored by the others.",
    )
    min_score: float | None = Field(
        None, description="The score asked for, instead: mean log ratio of the frequencies, a word (natural logarithm)."
    )

    @property
    def sources(self) -> dict[str, list[Source]]:
        """setting → the places it names, as sources."""
        from llmtune.corpus.settings import Source

        named = {"seeds": self.seeds, "general": self.general}
        return {setting: [Source(path=path)] for setting, path in named.items() if isinstance(path, Path)}

    @model_validator(mode="after")
    def _one_threshold(self) -> RelevanceSettings:
        if self.min_score is not None and self.keep_seeds != type(self).model_fields["keep_seeds"].default:
            raise ValueError("'keep_seeds' and 'min_score' both say where to cut; name one")
        return self


class PerplexitySettings(Settings):
    """A band of perplexity under a language model (as CCNet, Wenzek et al. 2020): above it is text that is no language
    the model knows, below it what it knows by heart or what repeats itself. Measured behind all other filters."""

    model: NamedModel = Field(description="The model to read with; usually the base model that is to be trained.")
    min: float | None = Field(None, gt=1, description="Least perplexity that a document is kept with.")
    max: float | None = Field(None, gt=1, description="Greatest perplexity that a document is kept with.")
    tokens: int = Field(512, ge=16, description="How many tokens are read, from the beginning of each document.")

    @model_validator(mode="after")
    def _is_a_band(self) -> PerplexitySettings:
        if self.min is None and self.max is None:
            raise ValueError("say min, max, or both")
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min ({self.min:g}) is not below max ({self.max:g})")
        return self


class FilterSettings(Settings):
    """Which documents to leave out, besides those below `min_characters`. All are off until named; `{}` is a filter
    with its published thresholds. Conversations and source code are not held to the form of prose (length,
    quality, repetition, sentences)."""

    length: LengthSettings | None = Field(None, description="How long documents may be.")
    quality: QualitySettings | None = Field(None, description="Gopher's quality rules.")
    repetition: RepetitionSettings | None = Field(None, description="Gopher's repetition rules.")
    sentences: SentenceSettings | None = Field(None, description="C4's rules, as far as they fit a domain.")
    languages: LanguageSettings | None = Field(None, description="Languages to keep.")
    relevance: RelevanceSettings | None = Field(None, description="Keep what is like documents of yours.")
    perplexity: PerplexitySettings | None = Field(None, description="A band of perplexity under a language model.")
    rules: list[Annotated[str, AfterValidator(_rule)]] = Field(
        default_factory=list,
        description="Conditions that every document must meet, such as "
        "words > 50 and not contains('lorem ipsum'); see docs/filters.md.",
    )
