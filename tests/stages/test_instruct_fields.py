"""Every setting of the `instruct` stage is read: change it, and other pairs are made. What its plan says, and that a
training learns the answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, read_split
from llmtune.errors import LlmtuneError
from llmtune.files import read_json
from llmtune.machine import Machine
from llmtune.stages.instruct import InstructStage
from llmtune.stages.stage import Context, Forecast
from tests.augment.corpora import corpus_of, document
from tests.augment.instruct.manual import TUNING, VACUUM
from tests.augment.instruct.server import KEY, Server, facts, pairs_about
from tests.stages.fields import WIRING, paths_of, with_setting

MACHINE = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=())
BASE: dict[str, Any] = {"min_answer": 50}
CHANGES: dict[str, Any] = {
    "rules": ["headings"],
    "subject": "MyBase",
    "system": "You know the manual.",
    "pairs_per_document": 1,
    "min_answer": 85,
    "max_answer": 90,
    "share": 0.2,
}
ELSEWHERE = {"keep_documents", "samples"}  # with a test of their own below
# What is seen at the endpoint, by `seen` below; timeout: tests/augment/instruct/test_endpoint.py.
GENERATE: dict[str, Any] = {
    "url": "/v2",
    "model": "larger",
    "key_variable": "OUR_KEY",
    "passages_per_document": 1,
    "pairs_per_passage": 1,
    "min_support": 1.0,
    "retries": 0,
    "parallel": 1,
    "on_error": "fail",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instruct")
    corpus_of(folder / "corpus", [document("a.md", VACUUM), document("b.md", TUNING)])
    return folder


def made(place: Path, settings: dict[str, Any], folder: Path) -> tuple[list[Document], Path]:
    """The documents of the train split, and the folder."""
    output = folder / "output"
    output.mkdir(parents=True)
    inputs = {"corpus": Artifact("corpus", place / "corpus", "f", "corpus", "corpus")}
    InstructStage.model_validate(settings).run(inputs, Context(output, folder / "work", seed=7))
    return list(read_split(output, "train")), output


def test_the_table_is_complete() -> None:
    assert paths_of(InstructStage) == set(CHANGES) | ELSEWHERE | set(WIRING) | {
        f"generate.{name}" for name in (*GENERATE, "timeout")
    }


@pytest.mark.parametrize("path", CHANGES)
def test_setting_is_read(place: Path, tmp_path: Path, path: str) -> None:
    changed = with_setting(BASE, path, CHANGES[path])
    plain, _ = made(place, BASE, tmp_path / "plain")
    assert sum(one.origin is not None for one in plain) > 5
    assert made(place, changed, tmp_path / "changed")[0] != plain
    assert InstructStage.model_validate(changed).identity() != InstructStage.model_validate(BASE).identity()


@pytest.mark.parametrize("name", GENERATE)
def test_setting_of_the_endpoint_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("OUR_KEY", KEY)
    monkeypatch.setattr("llmtune.augment.instruct.endpoint._LONGEST_WAIT", 0.0)
    text = "\n\n".join(facts(number).replace("# Engine 0", "## Engine 0") for number in range(3))
    corpus_of(tmp_path / "corpus", [document("a.md", text)])

    def half_true(passage: str) -> str:
        answer = "The oldest page that nobody reads is written back to disk first, gladly."
        return json.dumps(
            [*json.loads(pairs_about(passage))[:1], {"question": "Which page goes first?", "answer": answer}]
        )

    def seen(change: dict[str, Any]) -> tuple[Any, ...]:
        """The pairs, and what came to the endpoint: paths, bodies, keys, how many requests at a time at most."""
        server = Server()
        server.seconds = 0.02
        server.say = lambda passage, time: (
            (400 if name == "on_error" and "Engine 2" in passage else 503 if name == "retries" and time == 1 else 200),
            half_true(passage),
        )
        url = server.url.replace("/v1", str(change.get("url", "/v1")))
        settings = {"generate": {"model": "small", "parallel": 3, **change, "url": url}, "rules": []}
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        try:
            found, _ = made(tmp_path, settings, place)
        except LlmtuneError as error:
            return (error.what,)
        finally:
            server.close()
        bodies = sorted(str(body) for body in server.bodies)
        return [one.messages for one in found], server.paths, bodies, server.keys, min(server.most_at_a_time, 2)

    assert seen({}) != seen({name: GENERATE[name]})


def test_how_the_endpoint_is_asked_is_not_the_identity() -> None:
    def identity(**changes: Any) -> dict[str, Any]:
        generate = {"url": "http://localhost/v1", "model": "m"} | changes
        return InstructStage.model_validate({"generate": generate}).identity()

    assert identity(timeout=3, retries=1, parallel=9, key_variable="KEY", on_error="fail") == identity()
    assert all(
        identity(**{name: GENERATE[name]}) != identity() for name in ("model", "min_support", "pairs_per_passage")
    )


def test_keep_documents(place: Path, tmp_path: Path) -> None:
    with_them, _ = made(place, BASE, tmp_path / "with")
    alone, _ = made(place, BASE | {"keep_documents": False}, tmp_path / "alone")
    assert [one.id for one in with_them if one.text] == ["a.md", "b.md"]
    assert alone == [one for one in with_them if one.origin]


def test_samples(place: Path, tmp_path: Path) -> None:
    for count in (0, 2):
        _, output = made(place, BASE | {"samples": count}, tmp_path / str(count))
        assert len(read_json(output / "samples.json")["kept"]) == count


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"min_answer": 500, "max_answer": 400}, "must be below max_answer"),
        ({"share": 0.2, "keep_documents": False}, "pairs' part beside the documents"),
        ({"rules": ["code", "code"]}, "names one twice"),
        ({"rules": []}, "nothing to make pairs by"),
        ({"generate": {"url": "localhost", "model": "m"}}, "should match pattern"),
        ({"generate": {"url": "http://me:secret@host/v1", "model": "m"}}, "should match pattern"),
        *(
            ({"generate": {"url": url, "model": "m"}}, told)
            for url, told in (
                ("http://a..b/v1", "its host or port cannot be one"),
                (f"http://{'a' * 64}.org/v1", "its host or port cannot be one"),
                ("http://:8000/v1", "its host or port cannot be one"),
                ("http://[::1/v1", "its host or port cannot be one"),
                ("http://localhost:notaport/v1", "its host or port cannot be one"),
                ("http://localhost:70000/v1", "its host or port cannot be one"),
                ("http://localhost:8000/ä/v1", "letters of a host as `xn--…`, those of a path as `%C3%A4`"),
                ("http://łódź.pl/v1", "letters of a host as `xn--…`, those of a path as `%C3%A4`"),
            )
        ),
        ({"rules": ["titles"]}, "'headings', 'definitions' or 'code'"),
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        InstructStage.model_validate(settings)


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://api.example.org/a%20b/v1/", "http://[::1]:8000/v1", "http://10.0.0.1"]
)
def test_addresses(url: str) -> None:
    stage = InstructStage.model_validate({"generate": {"url": url, "model": "m"}})
    assert stage.generate is not None
    assert stage.generate.url == url


def test_plan() -> None:
    tokens = {"train": 100_000, "valid": 5_000, "test": 5_000}
    corpus = Forecast("corpus", bytes=1_000_000, tokens=tokens)

    def plan(**settings: Any) -> Any:
        return InstructStage.model_validate(settings).plan({"corpus": corpus}, MACHINE)

    whole, headings, alone = plan(), plan(rules=["headings"]), plan(keep_documents=False)
    assert whole.problems == ()
    assert 100_000 < headings.makes.tokens["train"] < whole.makes.tokens["train"] < 130_000
    assert all(whole.makes.tokens[split] == tokens[split] + alone.makes.tokens[split] for split in tokens)
    assert whole.makes.bytes == pytest.approx(corpus.bytes + alone.makes.bytes, rel=0.01)
    assert whole.disk > whole.makes.bytes
    assert whole.seconds > 0
    assert plan(share=0.1).makes.tokens["train"] == pytest.approx(100_000 / 0.9, rel=0.01)
    assert any("too few for `share`" in note for note in plan(share=0.9).notes)
    assert "pairs" in whole.notes[0]
    asking = plan(generate={"url": "http://localhost/v1", "model": "m", "key_variable": "NO_SUCH_KEY"})
    assert asking.seconds is None
    assert any("passages go to http://localhost/v1" in note for note in asking.notes)
    assert any("NO_SUCH_KEY is not set" in problem for problem in asking.problems)
    assert asking.makes.tokens["train"] > whole.makes.tokens["train"]


def test_the_plan_imports_no_torch() -> None:
    code = """
import sys
from llmtune.machine import this_machine
from llmtune.stages.instruct import InstructStage
from llmtune.stages.stage import Forecast
stage = InstructStage()
stage.identity(), stage.plan({"corpus": Forecast("corpus", 1000, tokens={"train": 100})}, this_machine())
sys.exit(any(name in sys.modules for name in ("torch", "transformers")))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_documents_to_pairs_to_a_training_that_learns_the_answers(tmp_path: Path) -> None:
    """From files through the stages; what is a target is what the assistant says, and the end of it."""
    from transformers import AutoTokenizer

    from llmtune.stages.corpus import CorpusStage
    from llmtune.stages.train import TrainStage
    from llmtune.training.tokenize import tokenize
    from tests.tiny import EOS, tiny_checkpoint
    from tests.training.small_run import SMALL

    (tmp_path / "docs").mkdir()
    for number in range(12):
        text = (VACUUM + TUNING).replace("VACUUM", f"COMMAND_{number}").replace("rows", f"rows of kind {number}")
        (tmp_path / "docs" / f"{number}.md").write_text(text)
    model = tiny_checkpoint(tmp_path / "model", context=512)

    def context(name: str) -> Context:
        (tmp_path / name / "output").mkdir(parents=True)
        return Context(tmp_path / name / "output", tmp_path / name / "work", seed=7)

    def artifact(kind: str, folder: Path) -> Artifact:
        return Artifact(kind, folder, kind, kind, kind)

    documents = CorpusStage.model_validate({"sources": [{"path": tmp_path / "docs"}], "near_duplicates": None})
    made = context("corpus")
    documents.run({}, made)
    pairs = context("instruct")
    InstructStage(keep_documents=False).run({"corpus": artifact("corpus", made.output)}, pairs)
    inputs = {"corpus": artifact("corpus", pairs.output), "checkpoint": artifact("checkpoint", model)}
    training = TrainStage.model_validate(SMALL | {"row_tokens": 256, "tokens": 2000})
    metrics = training.run(inputs, context("train"))
    assert (tmp_path / "train" / "output" / "model.safetensors").exists()
    assert metrics["steps"] > 0
    tokenizer = AutoTokenizer.from_pretrained(model)
    for one in read_split(pairs.output, "train"):
        ((ids, targets),) = tokenize([one], tokenizer)
        learned = tokenizer.decode([token for token, target in zip(ids, targets, strict=True) if target])
        assert one.messages is not None
        assert learned == one.messages[-1].content + EOS
