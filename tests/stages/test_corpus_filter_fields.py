"""Every setting of the filters is read: with its filter on, change it, and other documents are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtune.corpus.filters import filters_of
from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import FilterSettings
from llmtune.corpus.settings import Source
from llmtune.stages.corpus import CorpusStage
from tests.stages.fields import paths_of, with_setting

PROSE = "The log is written to the disk before the tables are, and that is why a crash loses nothing. "
# A different word each: nothing in it repeats.
PLAIN = " ".join(f"{word}{number}" for number in range(40) for word in ("the", "and", "word")) + " the and of."

# setting → (settings of its filter, text, changed value); the text passes with one of the two and not with the other
CHANGES: dict[str, tuple[dict[str, Any], str, Any]] = {
    "length.min_words": ({}, PROSE, 5),
    "length.max_words": ({}, PROSE * 5, 50),
    "length.max_characters": ({}, PROSE * 5, 100),
    "quality.min_word_length": ({}, PROSE, 8),
    "quality.max_word_length": ({}, PROSE, 2),
    "quality.max_symbols": ({}, PROSE + "# # # #", None),
    "quality.max_digits": ({}, PROSE + "2026", 0.01),
    "quality.max_bullet_lines": ({}, "- " + PROSE, None),
    "quality.max_ellipsis_lines": ({}, PROSE + "…", None),
    "quality.min_alphabetic": ({}, PROSE + "1 2 3 4 5 6", None),
    "quality.min_stop_words": ({}, PROSE, 7),
    "quality.stop_words": ({}, PROSE, ["der", "die"]),
    "repetition.duplicate_lines": (
        {"duplicate_line_characters": None, "top_sequences": {}, "repeated_sequences": {}}, "a\nb\nb\nb", None
    ),
    "repetition.duplicate_paragraphs": (
        {"duplicate_paragraph_characters": None, "duplicate_lines": None, "duplicate_line_characters": None,
         "top_sequences": {}, "repeated_sequences": {}}, "a\n\nb\n\nb", None,
    ),
    "repetition.duplicate_line_characters": (
        {"duplicate_lines": None, "top_sequences": {}, "repeated_sequences": {}}, "a\nbbb\nbbb", None
    ),
    "repetition.duplicate_paragraph_characters": (
        {"duplicate_paragraphs": None, "duplicate_lines": None, "duplicate_line_characters": None,
         "top_sequences": {}, "repeated_sequences": {}}, "a\n\nbbb\n\nbbb", None,
    ),
    "repetition.top_sequences": ({"repeated_sequences": {}}, "the log " * 9 + PLAIN[:99], {2: 1.0}),
    "repetition.repeated_sequences": ({"top_sequences": {}}, PLAIN[:300] + " " + PLAIN[:300], {5: 1.0}),
    "sentences.min_sentences": ({}, PROSE, 1),
    "sentences.min_words": ({"min_sentences": 1}, "Go on.", 2),
    "sentences.lorem_ipsum": ({"min_sentences": 1}, PROSE + "Lorem ipsum.", False),
    "sentences.curly_brackets": ({"min_sentences": 1}, PROSE + "{}", True),
    "languages.keep": ({"keep": ["en"]}, PROSE * 2, ["de"]),
    "languages.min_probability": ({"keep": ["de"], "min_probability": 1e-12}, PROSE * 2, 0.5),
    "languages.min_characters": ({"keep": ["de"]}, PROSE * 2, 1000),
    "relevance.seeds": ({"seeds": "seeds", "general": "general"}, PROSE, "others"),
    "relevance.general": ({"seeds": "seeds", "general": "general"}, PLAIN, "seeds"),
    "relevance.keep_seeds": ({"seeds": "mixed", "general": "general", "keep_seeds": 1.0}, PLAIN, 0.5),
    "relevance.min_score": ({"seeds": "seeds", "general": "general"}, PROSE, 99.0),
    "rules": ({}, PROSE, ["words > 50"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    texts = {
        "seeds": [PROSE],
        "others": [PLAIN],
        "general": [PLAIN, "Something else. "],
        "mixed": [PROSE] * 9 + [PLAIN],
    }
    for name, made in texts.items():
        (place / name).mkdir()
        for number in range(20):
            (place / name / f"{number:02d}.txt").write_text(made[number % len(made)])
    return place


def passes(place: Path, settings: dict[str, Any], text: str) -> bool:
    made = FilterSettings.model_validate(settings, context={"folder": place})
    return all(one.judge(View("", "", "", text)) is None for one in filters_of(made, [Source(path=place)]))


def test_the_table_is_complete() -> None:
    here = {path for path in paths_of(FilterSettings) if not path.startswith("perplexity.")}  # tests/corpus
    assert here == set(CHANGES)


@pytest.mark.parametrize("path", CHANGES)
def test_setting_is_read(place: Path, path: str) -> None:
    block, text, value = CHANGES[path]
    before: dict[str, Any] = {path.partition(".")[0]: block} if "." in path else {}
    after = with_setting(before, path, value)
    assert passes(place, before, text) != passes(place, after, text)
    stages = [
        CorpusStage.model_validate({"sources": [{"path": "others"}], "filters": filters}, context={"folder": place})
        for filters in (before, after)
    ]
    assert stages[0].identity() != stages[1].identity()
