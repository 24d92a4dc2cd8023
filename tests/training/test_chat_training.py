"""Training on conversations, from corpus to checkpoint: the answers are what is learned, and where they end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from llmtune.corpus.store import Document, Message, write_split
from tests.tiny import TEXT, tiny_checkpoint
from tests.training.small_run import Interrupting, losses_of, small_train

END_OF_TURN, END_OF_TEXT = 3, 4  # of the tiny tokenizer: what its template writes, and what a base model stops at


def conversation(number: int) -> list[dict[str, str]]:
    pairs = [(f"{number}. What is {part}?", TEXT[(number + part) % len(TEXT)][:40]) for part in range(1 + number % 2)]
    return [
        {"role": role, "content": text}
        for question, answer in pairs
        for role, text in (("user", question), ("assistant", answer))
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that stops at another token than the one that its chat template puts behind an answer."""
    folder = tmp_path_factory.mktemp("chat")
    tiny_checkpoint(folder / "model", "llama")
    settings = folder / "model" / "generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token_id": END_OF_TEXT}))
    documents = []
    for number in range(6):
        messages = tuple(Message(**one) for one in conversation(number))
        digest = hashlib.sha256(str(messages).encode()).hexdigest()
        documents.append(Document(f"d{number}", None, messages, "chat", None, digest, str(number)))
    write_split(folder / "corpus", "train", documents)
    return folder


def test_the_loss_is_that_of_the_answers_and_their_ends(place: Path) -> None:
    """All conversations are in one batch, so its loss is the mean over every answer's tokens, each seen alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    small_train(place, "one", row_tokens=256, batch_tokens=2048, epochs=1, tokens=None)
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    total, count = 0.0, 0
    for number in range(6):
        messages = conversation(number)
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        with torch.no_grad():
            losses = F.cross_entropy(model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]), reduction="none")
        for turn in range(1, len(messages), 2):
            before = tokenizer.apply_chat_template(messages[:turn], add_generation_prompt=True, return_dict=True)
            start = len(before["input_ids"])
            stop = ids.index(END_OF_TURN, start) + 1
            total += float(losses[start - 1 : stop - 1].sum())
            count += stop - start
    assert losses_of(place, "one")[0] == pytest.approx(total / count, abs=1e-4)


def test_what_does_not_fit_is_told(place: Path) -> None:
    told = Interrupting()
    metrics = small_train(place, "short", told, row_tokens=64, batch_tokens=2048, epochs=1, tokens=None)
    assert metrics["shortened_conversations"] > 0
    assert any("conversations are longer than row_tokens (64) and lose their end" in note for note in told.notes)


@pytest.mark.parametrize("adapter", [None, {"rank": 4}], ids=["full", "lora"])
def test_a_base_model_learns_where_to_stop(place: Path, adapter: dict[str, Any] | None) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = f"stops-{bool(adapter)}"
    small_train(place, name, row_tokens=256, batch_tokens=2048, epochs=1, tokens=None, adapter=adapter)
    output = place / name / "output"
    model = AutoModelForCausalLM.from_pretrained(output)
    assert model.generation_config.eos_token_id == [END_OF_TEXT, END_OF_TURN]
    assert AutoTokenizer.from_pretrained(output).eos_token_id == END_OF_TURN
