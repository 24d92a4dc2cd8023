"""Sequence-to-sequence models as the engine: the same words as transformers alone, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtune.augment.seq2seq import Seq2Seq, identity_of, shapes_of
from llmtune.augment.settings import TranslationModels
from llmtune.errors import LlmtuneError
from llmtune.monitor import Monitor
from tests.augment.translators import tiny_marian, tiny_nllb
from tests.tiny import TEXT, tiny_checkpoint

LONG = "far too long " * 300


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("marian")
    return tiny_marian(folder / "en-es"), tiny_marian(folder / "es-en", seed=1)


def engine_of(forward: Path, backward: Path | None = None, **changes: Any) -> Seq2Seq:
    languages = {"language": "en", "pivot": "es"} | {key: changes.pop(key) for key in ("language", "pivot")
                                                    if key in changes}  # fmt: skip
    models = TranslationModels(forward=str(forward), backward=str(backward) if backward else None, **changes)
    return Seq2Seq(models, monitor=Monitor(), **languages)


def by_transformers_alone(folder: Path, text: str, beams: int = 1, **options: Any) -> str:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if options:
        options = {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(options["tgt_lang"])}
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    inputs = tokenizer(text, return_tensors="pt")
    tokens = model.generate(
        input_ids=inputs["input_ids"], num_beams=beams, do_sample=False, max_length=None,
        max_new_tokens=min(2 * inputs["input_ids"].shape[1] + 16, 511), **options,
    )  # fmt: skip
    return " ".join(tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].split())


@pytest.mark.parametrize("beams", [1, 3])
def test_the_same_words_as_transformers_alone(marian: tuple[Path, Path], beams: int) -> None:
    there, back = marian
    texts = ["A [1] generator", LONG]
    # One sentence a batch: how long a random model babbles depends on the longest of its batch.
    trips = list(engine_of(there, back, beams=beams, batch=1).round_trips(texts))
    assert trips[1] is None
    for text, trip in zip(texts, trips, strict=True):
        if trip is not None:
            assert trip.pivot == by_transformers_alone(there, text, beams)
            assert trip.text == by_transformers_alone(back, trip.pivot, beams)


def test_batches_are_sorted_and_put_back(marian: tuple[Path, Path]) -> None:
    texts = [" ".join(["cost", "of", "rows", "path"][: 1 + number % 4]) for number in range(10)]
    engine = engine_of(*marian, batch=3)
    assert engine.together == 12
    trips = list(engine.round_trips(texts))
    assert all(trips[at] == trips[at + 4] for at in range(6))
    assert len({trip.pivot for trip in trips if trip}) > 1


def test_a_model_of_many_languages_serves_both_directions(tmp_path: Path) -> None:
    folder = tiny_nllb(tmp_path / "nllb")
    codes = {"language": "eng_Latn", "pivot": "spa_Latn"}
    (trip,) = engine_of(folder, **codes).round_trips([TEXT[0]])
    assert trip is not None
    pivot = by_transformers_alone(folder, TEXT[0], src_lang="eng_Latn", tgt_lang="spa_Latn")
    assert trip.pivot == pivot
    assert trip.text == by_transformers_alone(folder, pivot, src_lang="spa_Latn", tgt_lang="eng_Latn")
    (other,) = engine_of(folder, **codes | {"pivot": "cat_Latn"}).round_trips([TEXT[0]])
    assert other is not None
    assert other.pivot != trip.pivot
    with pytest.raises(LlmtuneError, match=r"(?s)knows no language 'es'.*eng_Latn, spa_Latn"):
        engine_of(folder, **codes | {"pivot": "es"})


def test_a_marian_of_several_targets_is_told_which(tmp_path: Path) -> None:
    folder = tiny_marian(tmp_path / "many", marks=(">>spa<<", ">>cat<<", ">>eng<<"))
    (trip,) = engine_of(folder, language="eng", pivot="spa", batch=1).round_trips([TEXT[0]])
    assert trip is not None
    assert trip.pivot == by_transformers_alone(folder, f">>spa<< {TEXT[0]}")
    with pytest.raises(LlmtuneError, match=r"(?s)knows no language 'fra'.*spa, cat"):
        engine_of(folder, language="eng", pivot="fra")


def test_what_is_refused(tmp_path: Path) -> None:
    pickled = tiny_marian(tmp_path / "pickled", safe=False)
    with pytest.raises(LlmtuneError, match=r"(?s)pytorch_model\.bin"):
        shapes_of(TranslationModels(forward=str(pickled)))
    decoder = tiny_checkpoint(tmp_path / "llama")
    with pytest.raises(LlmtuneError, match="no sequence-to-sequence model"):
        shapes_of(TranslationModels(forward=str(decoder)))
    with pytest.raises(LlmtuneError, match="was not found"):
        shapes_of(TranslationModels(forward=str(tmp_path / "nowhere")))


def test_identity_is_that_of_the_contents(marian: tuple[Path, Path], tmp_path: Path) -> None:
    there, back = marian
    one = identity_of(TranslationModels(forward=str(there), backward=str(back)))
    same = tiny_marian(tmp_path / "elsewhere")
    assert identity_of(TranslationModels(forward=str(same), backward=str(back))) == one
    (same / "target.spm").write_bytes(b"another")
    assert identity_of(TranslationModels(forward=str(same), backward=str(back))) != one
