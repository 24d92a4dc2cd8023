"""Sequence-to-sequence models of transformers (Marian, NLLB, M2M100, mBART, …) as the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmtune.augment.engine import RoundTrip
from llmtune.augment.settings import TranslationModels
from llmtune.errors import CannotRunHere
from llmtune.extras import need
from llmtune.machine import cpu_threads
from llmtune.models.find import find_shape, identity, resolve
from llmtune.models.reference import ModelReference
from llmtune.models.shape import ModelShape, context_of
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCHES = 4  # that are sorted by length together, so that little is padded


def identity_of(models: TranslationModels) -> dict[str, Any]:
    """The contents of both models, the search, and the version of transformers."""
    from importlib.metadata import version

    return {
        "forward": identity(models.forward),
        "backward": identity(models.backward or models.forward),
        "beams": models.beams,
        "batch": models.batch,
        "transformers": version("transformers"),
    }


def shapes_of(models: TranslationModels) -> list[ModelShape]:
    """The shapes of the models, from headers alone; the same model for both directions is one. Raises LlmtuneError
    where one is not to be found, or does not translate."""
    references = [models.forward] + ([models.backward] if models.backward else [])
    return [_translator_shape(reference) for reference in references]


def _translator_shape(reference: ModelReference) -> ModelShape:
    shape = find_shape(reference)
    if not shape.config.get("is_encoder_decoder"):
        raise CannotRunHere(
            f"'{reference.name}' (of type {shape.family}) is no sequence-to-sequence model: it does not translate",
            where="back_translate.models",
            fix="name a translator, for example Helsinki-NLP/opus-mt-en-es, or facebook/nllb-200-distilled-600M",
        )
    return shape


class Seq2Seq:
    """Both directions by models, in batches; greedy or by beams, never sampled."""

    def __init__(self, models: TranslationModels, language: str, pivot: str, monitor: Monitor) -> None:
        need("sentencepiece", "translating by models")
        import torch

        shapes_of(models)
        torch.set_num_threads(cpu_threads())
        self.identity = {"engine": "models", "language": language, "pivot": pivot} | identity_of(models)
        self.together = _BATCHES * models.batch
        forward = _load(models.forward, monitor)
        backward = _load(models.backward, monitor) if models.backward else forward
        self._there = _Direction(*forward, language, pivot, models)
        self._back = _Direction(*backward, pivot, language, models)
        for direction in (self._there, self._back):
            direction.languages()  # an unknown one is told before anything is translated

    def round_trips(self, segments: Sequence[str]) -> Iterator[RoundTrip | None]:
        """As the protocol says; None for a sentence that is too long for a model."""
        pivots = self._there.translate(segments)
        texts = iter(self._back.translate([pivot for pivot in pivots if pivot is not None]))
        for pivot in pivots:
            text = next(texts) if pivot is not None else None
            yield RoundTrip(pivot, text) if pivot is not None and text is not None else None

    def close(self) -> None:
        """Nothing to end: the models are ours."""


def _load(reference: ModelReference, monitor: Monitor) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from llmtune.models.load import load_to_run, load_tokenizer

    folder, trust = resolve(reference, monitor), reference.trust_remote_code
    model = load_to_run(folder, translator=True, trust_remote_code=trust)
    return model, load_tokenizer(folder, trust_remote_code=trust)


@dataclass(frozen=True)
class _Direction:
    """One model, from one language to another."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    target: str
    settings: TranslationModels

    def translate(self, texts: Sequence[str]) -> list[str | None]:
        """The translations in the order of the texts; None for what is longer than the model's context."""
        prefix, forced = self.languages()
        longest = context_of(self.model.config.to_dict()) or 512
        ids = [self.tokenizer(prefix + text)["input_ids"] for text in texts]
        fitting = [number for number, tokens in enumerate(ids) if 0 < len(tokens) <= longest]
        fitting.sort(key=lambda number: (len(ids[number]), number))
        found: list[str | None] = [None] * len(texts)
        for start in range(0, len(fitting), self.settings.batch):
            batch = fitting[start : start + self.settings.batch]
            answers = self._generate([ids[number] for number in batch], longest, forced)
            for number, answer in zip(batch, answers, strict=True):
                found[number] = " ".join(answer.split())
        return found

    def _generate(self, ids: list[list[int]], longest: int, forced: dict[str, int]) -> list[str]:
        """ids: of one batch, without padding."""
        import torch

        inputs_BT = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            tokens_BT = self.model.generate(
                input_ids=inputs_BT["input_ids"],
                attention_mask=inputs_BT["attention_mask"],
                num_beams=self.settings.beams,
                do_sample=False,
                max_length=None,
                max_new_tokens=min(2 * max(map(len, ids)) + 16, longest - 1),
                **forced,
            )
        return self.tokenizer.batch_decode(tokens_BT, skip_special_tokens=True)  # type: ignore[no-any-return]

    def languages(self) -> tuple[str, dict[str, int]]:
        """What tells a model of many languages which two are meant: (text put in front, options of `generate`). Raises
        CannotRunHere where it does not know one of them."""
        tokenizer: Any = self.tokenizer
        known = list(getattr(tokenizer, "supported_language_codes", None) or ())
        if known:  # Marian with several targets: >>spa<<
            mark = f">>{self.target}<<"
            if mark not in known:
                raise self._unknown(self.target, known)
            return f"{mark} ", {}
        if getattr(tokenizer, "src_lang", None) is None:
            return "", {}
        as_token = getattr(tokenizer, "get_lang_token", lambda code: code)  # M2M100 writes es as __es__
        for code in (self.source, self.target):
            try:
                token = tokenizer.convert_tokens_to_ids(as_token(code))
            except KeyError:
                token = None
            if token is None or token == tokenizer.unk_token_id:
                raise self._unknown(code, tokenizer.all_special_tokens)
        tokenizer.src_lang = self.source
        return "", {"forced_bos_token_id": token}

    def _unknown(self, code: str, known: Sequence[str]) -> CannotRunHere:
        codes = [one.strip("_><") for one in known if not one.startswith("<")]
        return CannotRunHere(
            f"the translator {self.model.config.name_or_path} knows no language '{code}'",
            where="back_translate.language and .pivot",
            fix=f"write it as the model does, for example {', '.join(codes[:8])}",
        )
