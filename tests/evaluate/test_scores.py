"""The scores of a tiny model: each figure, each setting, and an evaluation that is killed and goes on."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, Message, read_split, write_split
from llmtune.corpus.text import content_hash, document_text
from llmtune.errors import BadArtifact, CannotRunHere, Stopped
from llmtune.evaluate import scores as scores_module
from llmtune.evaluate.conversations import spans_of_answers
from llmtune.evaluate.passages import texts_of
from llmtune.evaluate.scores import Evaluation, evaluate_model
from llmtune.evaluate.settings import EvaluateSettings
from llmtune.evaluate.subject import find_subject
from llmtune.files import write_json
from llmtune.machine import this_machine
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.shape import read_shape
from llmtune.monitor import Monitor
from llmtune.stages.answers import AnswersStage
from llmtune.stages.evaluate import EvaluateStage
from llmtune.stages.stage import Context, Forecast
from llmtune.training.chat_template import tokenize_conversations
from tests.evaluate.conftest import documents, write_corpus
from tests.evaluate.test_likelihood import naive
from tests.tiny import CHAT_TEMPLATE, tiny_checkpoint

SMALL: dict[str, Any] = {"tokens": 600, "general": None, "questions": 6, "knowledge": 0, "speed": False}
SMALL |= {"row_tokens": 128}


@pytest.fixture
def measure(checkpoint: Path, corpus: Path, tmp_path: Path) -> Any:
    """Scores of the tiny model with some settings changed."""

    def measured(folder: Path | None = checkpoint, at: Path | None = corpus, seed: int = 0, **settings: Any) -> Any:
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        return evaluate_model(folder or checkpoint, EvaluateSettings(**SMALL | settings), at, work, seed)

    return measured


def test_perplexity_and_bits_per_byte_by_hand(measure: Any, checkpoint: Path) -> None:
    found = measure(questions=0, row_tokens=64)
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    nats = count = size = 0.0
    for text in texts_of(documents(), 600, 64):
        assert isinstance(text, str)
        tokens = tokenizer(text)["input_ids"]
        size += len(text.encode()) - len(tokenizer.decode(tokens[:1]).encode())
        count += len(tokens) - 1
        for start in range(0, len(tokens) - 1, 63):
            nats += naive(model, tokens[start : start + 64], 1)
    assert found["domain_tokens"] == count
    assert found["domain_perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)
    assert found["domain_bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_scores_are_json_and_the_same_twice(measure: Any) -> None:
    found = measure()
    assert json.loads(json.dumps(found, allow_nan=False)) == found == measure()
    assert found["parameters"] > 0 < found["bytes"]
    assert len(found["domain_right"]) == found["questions"] == 6
    assert found["domain_accuracy"] == found["domain_right"].count("1") / 6
    assert found["domain_accuracy_low"] < found["domain_accuracy"] < found["domain_accuracy_high"]


def test_the_same_text_whatever_the_tokenizer_or_the_order(measure: Any, tmp_path: Path) -> None:
    other = tiny_checkpoint(tmp_path / "gpt2", "gpt2", vocab_size=270, add_bos=True, chat_template=None)
    backwards = write_corpus(tmp_path / "backwards", documents()[::-1])
    one, two, three = measure(), measure(other), measure(at=backwards)
    assert one == three
    assert one["domain_tokens"] != two["domain_tokens"]
    for field in ("domain_text", "domain_questions_text", "questions"):
        assert one[field] == two[field]


def test_a_killed_evaluation_goes_on_with_the_parts_it_has(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(**SMALL)

    class StopsAfter(Monitor):
        left = 3

        def stop_requested(self) -> bool:
            self.left -= 1
            return self.left < 0

    whole = evaluate_model(checkpoint, settings, corpus, tmp_path / "whole", 0)
    with pytest.raises(Stopped):
        evaluate_model(checkpoint, settings, corpus, tmp_path / "work", 0, StopsAfter())
    (parts,) = (tmp_path / "work").iterdir()
    assert (parts / "size.json").is_file()
    assert not (parts / "questions.json").exists()
    assert evaluate_model(checkpoint, settings, corpus, tmp_path / "work", 0) == whole
    write_json(parts / "domain.json", {"domain_perplexity": 1.5})
    assert evaluate_model(checkpoint, settings, corpus, tmp_path / "work", 0)["domain_perplexity"] == 1.5
    # Another model, corpus, text or seed does not take them for its own.
    other = tiny_checkpoint(tmp_path / "other", "gpt2")
    of_other = evaluate_model(other, settings, corpus, tmp_path / "fresh", 0)
    assert evaluate_model(other, settings, corpus, tmp_path / "work", 0) == of_other
    fewer = EvaluateSettings(**SMALL | {"tokens": 100})
    assert evaluate_model(checkpoint, fewer, corpus, tmp_path / "work", 0)["domain_tokens"] < whole["domain_tokens"]
    assert evaluate_model(checkpoint, settings, None, tmp_path / "work", 0).keys() < whole.keys()


def write_questions(file: Path, *lines: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.mark.parametrize("template", [True, False])
def test_own_questions(measure: Any, tmp_path: Path, template: bool) -> None:
    from llmtune.evaluate.answers import answers_of

    changes: dict[str, Any] = {} if template else {"chat_template": None}
    for seed in range(20):  # some of these models say nothing
        folder = tiny_checkpoint(tmp_path / str(seed), seed=seed, **changes)
        (answer,) = answers_of(folder, ["What does the planner keep?"], 8)
        if len(answer.split()) > 1:  # the last word may go on in a longer answer
            break
    choices = ["the cheapest path", "the"]
    file = write_questions(
        tmp_path / "own.jsonl",
        {"question": "What does the planner keep?", "answer": answer.split()[0].upper()},
        {"question": "What does the planner keep?", "answer": "nothing of the kind"},
        {"question": "The planner keeps", "choices": choices, "answer": 0},
        {"question": "The planner keeps", "choices": choices, "answer": 1},
        {"question": "The planner keeps " * 60, "choices": choices, "answer": 1},  # longer than the model's 256
    )
    found = measure(folder, None, own_questions=file)
    assert found["own_questions"] == 5
    assert found["own_right"][:2] == "10"
    assert found["own_right"][2:4] in ("10", "01")
    assert found["own_accuracy"] == found["own_right"].count("1") / 5


@pytest.mark.slow
def test_every_setting_changes_something(measure: Any, tmp_path: Path) -> None:
    plain = measure()
    general = tmp_path / "general.txt"
    general.write_text("The parties agree that the seller delivers the goods. " * 60)
    own = write_questions(tmp_path / "own.jsonl", {"question": "Q", "choices": ["a", "b"], "answer": 0})
    assert measure(split="valid")["domain_text"] != plain["domain_text"]
    assert measure(tokens=300)["domain_tokens"] < plain["domain_tokens"]
    assert "domain_perplexity" not in measure(tokens=0)
    assert measure(row_tokens=16)["domain_perplexity"] != plain["domain_perplexity"]
    assert measure(questions=2)["questions"] == 2
    of_questions = {"domain_right", "domain_questions_text", *(name for name in plain if "accuracy" in name)}
    assert measure(questions=0) == {k: v for k, v in plain.items() if k not in of_questions} | {"questions": 0}
    assert measure(seed=1)["domain_questions_text"] != plain["domain_questions_text"]
    assert measure(seed=1)["domain_text"] == plain["domain_text"]
    of_file = measure(general=general)
    assert of_file["general_perplexity"] > 1
    assert measure(general=general, general_tokens=100)["general_tokens"] < of_file["general_tokens"]
    assert measure(general="licences", general_tokens=200)["general_text"] != of_file["general_text"]
    assert measure(own_questions=own)["own_questions"] == 1
    assert measure(knowledge=4)["knowledge_questions"] == 4
    speed = measure(speed=True)
    assert speed["prefill_tokens_per_second"] > 0 < speed["decode_tokens_per_second"]
    assert 50e6 < speed["peak_memory_bytes"] < 20e9
    tested = {"split", "tokens", "row_tokens", "questions", "general", "general_tokens", "own_questions", "speed"}
    tested.add("knowledge")
    assert tested | {"minutes"} == set(EvaluateSettings.model_fields)


def test_minutes_bound_the_text_by_the_reference_model_s_size(measure: Any, checkpoint: Path, corpus: Path,
                                                              tmp_path: Path) -> None:  # fmt: skip
    settings = EvaluateSettings(**SMALL | {"minutes": 1, "general": "licences"})

    def affordable(parameters: int) -> dict[str, Any]:
        work = tmp_path / str(parameters)
        return evaluate_model(checkpoint, settings, corpus, work, 0, reference_parameters=parameters)

    small, large, huge = affordable(10**9), affordable(10**10), affordable(10**13)
    assert small["domain_tokens"] > large["domain_tokens"] > 0
    assert (small["questions"], large["questions"], huge["questions"]) == (4, 0, 0)  # of 900 tokens at 220, 90, 0
    assert "domain_perplexity" not in huge
    assert "general_perplexity" not in huge
    assert measure(minutes=1e-6)["questions"] == 0


def test_models_whose_positions_end_before_a_row_does(measure: Any, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "short", "gpt2", context=48)
    found = measure(folder, row_tokens=512, speed=True)
    assert found["questions"] == 6
    assert math.isfinite(found["domain_perplexity"])
    assert found["decode_tokens_per_second"] > 0


def test_a_recurrent_model(measure: Any, tmp_path: Path) -> None:
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    from tests.tiny import tiny_tokenizer

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4)
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    tiny_tokenizer().save_pretrained(tmp_path / "mamba")
    found = measure(tmp_path / "mamba", tokens=100, questions=2, speed=True)
    assert found["domain_perplexity"] > 1 < found["decode_tokens_per_second"]


def test_a_corpus_without_held_out_text(measure: Any, tmp_path: Path) -> None:
    found = measure(at=write_corpus(tmp_path / "empty", []))
    assert (found["domain_tokens"], found["questions"]) == (0, 0)
    assert "domain_perplexity" not in found
    assert "domain_accuracy" not in found


def test_no_model_to_measure(measure: Any, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadArtifact, match="an adapter alone, which is no model"):
        measure(tmp_path)


def test_a_gguf_file_beside_weights_is_passed_over(checkpoint: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(checkpoint, both)
    (both / "model.gguf").write_bytes(b"GGUF")
    assert find_subject(both).gguf is None
    (both / "model.safetensors").unlink()
    assert find_subject(both).gguf == both / "model.gguf"


def test_a_gguf_file_that_cannot_be_read_back_has_no_quality(
    checkpoint: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is in its header; the figures that need transformers are left out, with the reason."""
    notes: list[str] = []

    class Notes(Monitor):
        def note(self, text: str) -> None:
            notes.append(text)

    evaluation = Evaluation(checkpoint, EvaluateSettings(**SMALL), corpus, tmp_path, 0, Notes())
    subject = find_subject(checkpoint)
    monkeypatch.setattr(type(subject), "parameters", 1000)
    evaluation.subject = type(subject)(checkpoint, checkpoint / "config.json")

    def refuse(*_: Any) -> Any:
        raise CannotRunHere("transformers cannot read this family")

    monkeypatch.setattr(type(subject), "load", refuse)
    found = evaluation.run()
    assert found["not_measured"] == "transformers cannot read this family"
    assert "domain_perplexity" not in found
    assert len(notes) == 2
    evaluation.subject = find_subject(checkpoint)
    with pytest.raises(CannotRunHere):
        evaluation._measured(evaluation._domain)


@pytest.mark.slow
def test_a_gguf_file_scores_as_the_checkpoint_it_came_from(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    """Its weights are read back in bf16, and its tokenizer from the file; speed and memory are llama.cpp's."""
    from llmtune.export.convert import convert, converter_problem

    if converter_problem() is not None:
        pytest.skip(str(converter_problem()))

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    convert(checkpoint, bundle / "model.gguf", pre_tokenizer="gpt-2")
    settings = EvaluateSettings(**SMALL | {"speed": True})
    one = evaluate_model(checkpoint, settings, corpus, tmp_path / "one", 0)
    two = evaluate_model(bundle, settings, corpus, tmp_path / "two", 0)
    for field in ("parameters", "domain_tokens", "domain_text", "domain_questions_text"):
        assert one[field] == two[field]
    assert two["domain_perplexity"] == pytest.approx(one["domain_perplexity"], rel=0.01)
    assert two["bytes"] == (bundle / "model.gguf").stat().st_size
    assert two["prefill_tokens_per_second"] > 0 < two["decode_tokens_per_second"]
    assert two["peak_memory_bytes"] > 1e6


def artifact(folder: Path, kind: str, **metrics: Any) -> Artifact:
    return Artifact(kind, folder, "f" * 24, "toy", "toy", metrics)


def test_the_stage(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    stage = EvaluateStage(settings=EvaluateSettings(**SMALL))
    output = tmp_path / "output"
    output.mkdir()
    base = artifact(checkpoint, "checkpoint", parameters=10**9)
    inputs = {"model": artifact(checkpoint, "checkpoint"), "corpus": artifact(corpus, "corpus"), "base": base}
    found = stage.run(inputs, Context(output, tmp_path / "work", 0))
    assert json.loads((output / "scores.json").read_text()) == found
    assert found["questions"] == 6
    assert [path.name for path in output.iterdir()] == ["scores.json"]


def test_the_stage_measures_only_the_size_of_an_adapter(tmp_path: Path) -> None:
    stage = EvaluateStage(settings=EvaluateSettings(**SMALL))
    inputs = {"model": artifact(tmp_path / "adapter", "bundle", format="adapter", bytes=1234)}
    assert stage.run(inputs, Context(tmp_path, tmp_path / "work", 0)) == {"bytes": 1234}


def test_the_plan(checkpoint: Path, tmp_path: Path) -> None:
    model = Forecast("checkpoint", 1, read_shape(checkpoint))
    file, nowhere = tmp_path / "own.jsonl", tmp_path / "nowhere.txt"
    file.write_text("{}\n")
    settings = EvaluateSettings(own_questions=file, general=nowhere)
    plan = EvaluateStage(settings=settings).plan({"model": model, "corpus": model}, this_machine())
    assert len(plan.problems) == 2
    assert f"{file}:1" in plan.problems[0]
    assert str(nowhere) in plan.problems[1]
    plain = EvaluateStage(settings=EvaluateSettings()).plan({"model": model}, this_machine())
    assert plain.problems == ()
    shape = read_shape(checkpoint)
    # large enough that reading the bundle back into a checkpoint, which comes first, takes most
    large = replace(shape, tensors={**shape.tensors, "more.weight": (10**5, 10**4)}, bytes=2 * 10**9)
    in_bf16 = replace(this_machine(), flags=frozenset({"avx512_bf16"}))
    gguf, whole, adapter = (
        EvaluateStage(settings=EvaluateSettings()).plan({"model": Forecast("bundle", 1, large, format=form)}, in_bf16)
        for form in ("gguf", "hf", "adapter")
    )
    assert gguf.memory > whole.memory > plain.memory
    assert gguf.disk > whole.disk
    assert adapter.memory < whole.memory
    assert adapter.seconds is None


def test_the_plan_of_answers_knows_llama_cpp(checkpoint: Path) -> None:
    shape = read_shape(checkpoint)
    whole, gguf = (
        AnswersStage(prompts=["a"]).plan({"model": Forecast("bundle", 7, shape, format=form)}, this_machine())
        for form in ("hf", "gguf")
    )
    assert gguf.memory < whole.memory / 4


def test_the_plan_says_how_much_the_time_is_enough_for(checkpoint: Path) -> None:
    shape = read_shape(checkpoint)
    small = Forecast("checkpoint", 1, shape)
    large = Forecast("checkpoint", 1, replace(shape, tensors={"a.weight": (10**5, 7 * 10**4)}))

    def notes(model: Forecast, base: Forecast) -> tuple[str, ...]:
        inputs = {"model": model, "base": base, "corpus": small}
        return EvaluateStage(settings=EvaluateSettings(minutes=5)).plan(inputs, this_machine()).notes

    assert notes(small, small) == ()
    # 5 min × 1.5e11 FLOP/s / (2 × 7e9) = 3214 tokens; 0.35 of them of text, 0.2 in questions of 220 tokens, 0.15 of
    # general text; what is left, in knowledge questions of 145 tokens
    said = "5 minutes with a model of this size are enough for 1,125 of 10,000 held-out tokens, 2 of 60 questions, "
    said += "6 of 300 knowledge questions, 482 of 5,000 tokens of general text;"
    assert notes(large, large)[0].startswith(said)
    assert notes(replace(large, bytes=2), large) == ()  # said once


def test_identity_holds_the_contents_of_the_user_s_files_and_not_their_places(tmp_path: Path) -> None:
    def identity(folder: str, text: str) -> dict[str, Any]:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / "own.jsonl").write_text(text)
        (place / "general.txt").write_text(text)
        settings = EvaluateSettings(own_questions=place / "own.jsonl", general=place / "general.txt")
        return EvaluateStage(settings=settings).identity()

    one = identity("a", "text")
    assert str(tmp_path) not in json.dumps(one)
    assert one == identity("b", "text") != identity("a", "other")
    licences = EvaluateSettings().identity()["general"]  # other packages, other text, other scores
    assert (
        licences == EvaluateSettings().identity()["general"] != EvaluateSettings(general_tokens=9).identity()["general"]
    )
    assert set(one["settings"]) == set(EvaluateSettings.model_fields)


@pytest.fixture
def chat_corpus(tmp_path: Path) -> Path:
    turns = (
        Message("system", "Be brief."),
        Message("user", "What does the planner keep?"),
        Message("assistant", "The cheapest path."),
        Message("user", "And a generator?"),
        Message("assistant", "The next value, é."),
    )
    corpus = tmp_path / "chat"
    write_split(corpus, "test", [Document("a", None, turns, "toy", None, content_hash(None, turns), "g")])
    return corpus


def test_of_conversations_the_answers_are_measured(measure: Any, checkpoint: Path, chat_corpus: Path) -> None:
    """Against transformers' own rendering: each answer, with its end token, from all that stands before it."""
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    turns = [vars(message) for message in next(iter(read_split(chat_corpus, "test"))).messages or ()]
    nats, count = 0.0, 0
    for place in (2, 4):
        before = tokenizer.apply_chat_template(turns[:place], add_generation_prompt=True, tokenize=False)
        ids = tokenizer(before, add_special_tokens=False)["input_ids"]
        answer = tokenizer(turns[place]["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        nats, count = nats + naive(model, ids + answer, len(ids)), count + len(answer)
    found = measure(at=chat_corpus, row_tokens=512)
    assert found["domain_tokens"] == count
    assert found["domain_perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)
    size = len("The cheapest path.The next value, é.".encode())
    assert found["domain_bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert measure(at=chat_corpus, row_tokens=16)["domain_tokens"] == count


def conversation(*turns: tuple[str, str]) -> Document:
    messages = tuple(Message(role, content) for role, content in turns)
    sha256 = content_hash(None, messages)
    return Document(sha256[:6], None, messages, "toy", None, sha256, sha256)


@pytest.mark.parametrize("row_tokens", [2, 7, 16, 64, 512])
def test_bytes_and_tokens_of_answers_do_not_depend_on_the_rows(checkpoint: Path, row_tokens: int) -> None:
    tokenizer = load_tokenizer(checkpoint)
    answer = "😀é漢字" * 20
    talk = conversation(("user", "Write."), ("assistant", answer), ("user", "Again."), ("assistant", answer))
    spans = spans_of_answers(talk, tokenizer, row_tokens)
    assert sum(span.bytes for span in spans) == 2 * len(answer.encode())
    ((_, trained),) = tokenize_conversations([talk], tokenizer)
    assert sum(span.scored for span in spans) == trained.sum()
    assert all(len(span.tokens) <= row_tokens for span in spans)


def test_many_short_answers_are_read_twice_at_most(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    talk = conversation(*[("user", "Really?"), ("assistant", "yes indeed")] * 60)
    ((tokens, _),) = tokenize_conversations([talk], tokenizer)
    assert sum(len(span.tokens) for span in spans_of_answers(talk, tokenizer, 128)) <= 2 * len(tokens)


def test_a_long_conversation_keeps_to_the_budget() -> None:
    talk = conversation(*[("user", "Really?"), ("assistant", "yes indeed")] * 20_000)
    (kept,) = texts_of([talk], 100, 64)
    assert isinstance(kept, Document)
    assert 512 <= len(document_text(kept)) < 700


def test_a_conversation_that_the_template_refuses_is_left_out_by_name(tmp_path: Path) -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    model = tiny_checkpoint(tmp_path / "strict", "llama", chat_template=refusing + CHAT_TEMPLATE)
    refused = conversation(("system", "Be brief."), ("user", "Why?"), ("assistant", "Because."))
    good = conversation(("user", "Why not?"), ("assistant", "The cheapest path."))
    notes: list[str] = []

    class Notes(Monitor):
        def note(self, text: str) -> None:
            notes.append(text)

    found = []
    for name, talks in (("both", [refused, good]), ("good", [good])):
        write_split(tmp_path / name, "test", talks)
        settings = EvaluateSettings(**SMALL | {"questions": 0})
        found.append(evaluate_model(model, settings, tmp_path / name, tmp_path / f"{name}-work", 0, Notes()))
    assert found[0] == found[1]
    assert len(notes) == 1
    assert refused.id in notes[0]
    assert "no system role" in notes[0]


def test_without_a_chat_template_conversations_are_measured_by_their_words(
    measure: Any, tmp_path: Path, chat_corpus: Path
) -> None:
    plain = tiny_checkpoint(tmp_path / "plain", "llama", chat_template=None)
    by_words, by_answers = measure(plain, chat_corpus), measure(at=chat_corpus)
    assert by_words["domain_tokens"] > by_answers["domain_tokens"]
    assert by_words["domain_text"] != by_answers["domain_text"]  # not to be compared


def test_parts_are_saved_whole(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path) -> None:
    """A part that fails leaves nothing behind that a second try would take."""
    monkeypatch.setattr(scores_module, "texts_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_model(checkpoint, EvaluateSettings(**SMALL), tmp_path, tmp_path / "work", 0)
    assert [path.name for path in (tmp_path / "work").rglob("*.json")] == ["size.json"]


def test_a_prompt_is_continued_as_it_stands(checkpoint: Path) -> None:
    """Not through the chat template; greedily, one token after the other."""
    import torch

    from llmtune.evaluate.answers import reply

    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    ids = list(tokenizer("The planner keeps")["input_ids"])
    said: list[int] = []
    while len(said) < 8 and tokenizer.eos_token_id not in said:
        with torch.no_grad():
            said.append(int(model(input_ids=torch.tensor([ids + said])).logits[0, -1].argmax()))
    assert reply(model, tokenizer, "The planner keeps", 8, asked=False) == tokenizer.decode(said).strip()
    assert reply(model, tokenizer, "The planner keeps", 8) != reply(
        model, tokenizer, "The planner keeps", 8, asked=False
    )
