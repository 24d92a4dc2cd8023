"""Every setting of the `back_translate` stage is read: change it, and other texts are made. And what its plan says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.artifacts import Artifact
from llmtune.corpus.store import read_split
from llmtune.files import read_json
from llmtune.machine import Machine
from llmtune.stages.back_translate import BackTranslateStage
from llmtune.stages.stage import Context, Forecast
from tests.augment.conftest import FakeApertium, pretended
from tests.augment.corpora import corpus_of, document, text
from tests.augment.translators import tiny_marian
from tests.stages.fields import WIRING, paths_of, with_setting

MACHINE = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=())
BASE: dict[str, Any] = {"keep": {"min_similarity": 0.4}}
CHANGES: dict[str, Any] = {
    "language": "fr",
    "pivot": "ca",
    "share": 0.6,
    "max_characters": 1700,
    "keep.min_similarity": 0.85,
    "keep.max_similarity": 0.65,
    "keep.max_length_ratio": 1.0,
    "keep.max_unknown": 0.0,
    "keep.min_changed": 1.0,
}
# Those with a test of their own below; what a model is named by besides: tests/models/test_reference.py.
ELSEWHERE = {"engine", "samples", "models.beams", "models.batch"} | {
    f"models.{which}.{field}"
    for which in ("forward", "backward")
    for field in ("name", "revision", "trust_remote_code")
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("back-translate")
    odd = (
        "The stranger that nobody knows is read by one of our own queries each day. "
        "A wordy answer is read by all of the users that come along. This stubborn one comes back as it was."
    )
    corpus_of(folder / "corpus", [*(text(number) for number in range(4)), document("odd.md", odd)])
    return folder


@pytest.fixture(autouse=True, scope="module")
def pretended_apertium(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One that knows a second pivot and a second language, both saying things in another way."""
    with pytest.MonkeyPatch.context() as patch:
        fake = pretended(tmp_path_factory.mktemp("apertium"))
        there, back = (fake.modes / f"{mode}.mode" for mode in ("eng-spa", "spa-eng"))
        for mode, text in (("eng-cat", back), ("cat-eng", there), ("fra-spa", back), ("spa-fra", back)):
            (fake.modes / f"{mode}.mode").write_text(text.read_text())
        patch.setenv("PATH", fake.environment["PATH"])
        patch.delenv("APERTIUM_DATADIR", raising=False)
        yield fake


def made(place: Path, settings: dict[str, Any], folder: Path) -> tuple[list[str | None], Path]:
    """The texts added, and the folder."""
    output = folder / "output"
    output.mkdir(parents=True)
    inputs = {"corpus": Artifact("corpus", place / "corpus", "f", "corpus", "corpus")}
    BackTranslateStage.model_validate(settings).run(inputs, Context(output, folder / "work", seed=7))
    return [one.text for one in read_split(output, "train") if one.origin], output


def test_the_table_is_complete() -> None:
    assert paths_of(BackTranslateStage) == set(CHANGES) | ELSEWHERE | set(WIRING)


@pytest.fixture(scope="module")
def plain(place: Path, tmp_path_factory: pytest.TempPathFactory, pretended_apertium: FakeApertium) -> list[str | None]:
    return made(place, BASE, tmp_path_factory.mktemp("plain"))[0]


@pytest.mark.parametrize("path", CHANGES)
def test_setting_is_read(place: Path, plain: list[str | None], tmp_path: Path, path: str) -> None:
    changed = with_setting(BASE, path, CHANGES[path])
    assert len(plain) == 5
    assert made(place, changed, tmp_path)[0] != plain
    assert BackTranslateStage.model_validate(changed).identity() != BackTranslateStage.model_validate(BASE).identity()


def test_samples(place: Path, tmp_path: Path) -> None:
    for count in (0, 2):
        _, output = made(place, BASE | {"samples": count}, tmp_path / str(count))
        assert len(read_json(output / "samples.json")["kept"]) == count


def test_models(place: Path, tmp_path: Path) -> None:
    """Engine `models`: each of its settings makes other translations, seen in the memory's place: the identity; and a
    pair of models that say what they were taught (nothing) adds no text."""
    models = {"forward": str(tiny_marian(tmp_path / "a")), "backward": str(tiny_marian(tmp_path / "b", seed=1))}
    base = BASE | {"engine": "models", "models": models, "max_characters": 560}
    texts, output = made(place, base, tmp_path / "made")
    assert texts == []
    assert read_json(output / "card.json")["back_translation"][0]["engine"]["engine"] == "models"
    identities = [
        BackTranslateStage.model_validate(base | {"models": models | change}).identity()
        for change in ({}, {"beams": 2}, {"batch": 8}, {"forward": models["backward"]}, {"backward": None},
                       {"forward": {"name": models["forward"], "trust_remote_code": True}})
    ]  # fmt: skip
    assert all(one not in identities[:at] for at, one in enumerate(identities))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"engine": "models"}, "needs `models:"),
        ({"models": {"forward": "a/b"}}, "is for engine: models"),
        ({"pivot": "en"}, "own language"),
        ({"keep": {"min_similarity": 0.95}}, "must be below max_similarity"),
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        BackTranslateStage.model_validate(settings)


def test_plan(tmp_path: Path) -> None:
    corpus = Forecast("corpus", bytes=1_000_000, tokens={"train": 100_000, "valid": 5_000, "test": 5_000})

    def plan(**settings: Any) -> Any:
        return BackTranslateStage.model_validate(settings).plan({"corpus": corpus}, MACHINE)

    whole, half = plan(), plan(share=0.5)
    assert whole.problems == ()
    assert 150_000 < whole.makes.tokens["train"] <= 200_000
    assert half.makes.tokens["train"] - 100_000 == pytest.approx((whole.makes.tokens["train"] - 100_000) / 2, rel=0.01)
    assert (whole.makes.tokens["valid"], whole.makes.tokens["test"]) == (5_000, 5_000)
    assert whole.makes.bytes > half.makes.bytes > corpus.bytes
    assert whole.disk > half.disk > half.makes.bytes
    assert whole.seconds > half.seconds > 0
    assert plan(max_characters=1000).makes.tokens["train"] < 100_500
    (problem,) = plan(pivot="gl").problems
    assert "no language pair for en → gl → en" in problem
    assert "apt-get install apertium-eng-glg" in problem
    pickled = tiny_marian(tmp_path / "pickled", safe=False)
    (problem,) = plan(engine="models", models={"forward": str(pickled)}).problems
    assert "pytorch_model.bin" in problem
    marian = tiny_marian(tmp_path / "marian")
    assert plan(engine="models", models={"forward": str(marian)}).problems == ()


def test_the_plan_imports_no_torch(tmp_path: Path) -> None:
    marian = tiny_marian(tmp_path / "marian")
    code = f"""
import sys
from llmtune.machine import this_machine
from llmtune.stages.back_translate import BackTranslateStage
from llmtune.stages.stage import Forecast
corpus = {{"corpus": Forecast("corpus", 1000, tokens={{"train": 100}})}}
for settings in ({{}}, {{"engine": "models", "models": {{"forward": {str(marian)!r}}}}}):
    stage = BackTranslateStage.model_validate(settings)
    stage.identity(), stage.plan(corpus, this_machine())
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "sacrebleu")))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
