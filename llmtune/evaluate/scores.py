"""Measures one model: the parts one after the other, each saved when it is done, so that a killed evaluation goes on.

The scores (`scores.json`) are described in docs/evaluate.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmtune.corpus.general import general_text
from llmtune.corpus.store import Document, read_split
from llmtune.evaluate.intervals import wilson
from llmtune.evaluate.own import OwnQuestion, read_own_questions
from llmtune.evaluate.passages import CHARACTERS_PER_TOKEN, questions_of, texts_of
from llmtune.evaluate.settings import EvaluateSettings
from llmtune.evaluate.subject import Subject, find_subject
from llmtune.files import read_json, write_json
from llmtune.monitor import Monitor

# A modest CPU: tokens a second × 2 × parameters. Only bounds how much is measured, the same on every machine.
REFERENCE_FLOPS = 1.5e11
_QUESTION_TOKENS = 4 * 110  # four passages of about 110 tokens
_ANSWER_TOKENS = 64  # of a free answer


def evaluate_model(
    folder: Path, settings: EvaluateSettings, corpus: Path | None, work: Path, seed: int, monitor: Monitor | None = None
) -> dict[str, Any]:
    """The scores of the model in `folder` (checkpoint, bundle, or a .gguf file).

    corpus: artifact folder whose held-out split is measured; None leaves the domain's figures out
    work:   folder for finished parts; a second call with the same arguments goes on from them
    """
    return Evaluation(folder, settings, corpus, work, seed, monitor or Monitor()).run()


class Evaluation:
    """The parts of one model's scores. The model is loaded when the first part needs it."""

    def __init__(
        self, folder: Path, settings: EvaluateSettings, corpus: Path | None, work: Path, seed: int, monitor: Monitor
    ) -> None:
        self.subject: Subject = find_subject(folder)
        self.settings, self.corpus, self.work, self.seed, self.monitor = settings, corpus, work, seed, monitor
        self._loaded: tuple[Any, Any] | None = None

    def run(self) -> dict[str, Any]:
        """All parts; saved ones are taken as they are."""
        import torch

        parts: list[tuple[str, Callable[[], dict[str, Any]]]] = [("size", self._size)]
        if self.corpus is not None:
            parts += [("domain", self._domain), ("questions", self._questions)]
        if self.settings.general is not None:
            parts.append(("general", self._general))
        if self.settings.own_questions is not None:
            parts.append(("own", self._own))
        if self.settings.speed:
            parts.append(("speed", self._speed))
        scores: dict[str, Any] = {}
        with torch.inference_mode():
            for name, measure in parts:
                saved = self.work / f"{name}.json"
                if not saved.is_file():
                    self.monitor.safe_point()
                    write_json(saved, measure())
                scores |= read_json(saved)
        return scores

    @property
    def model(self) -> tuple[Any, Any]:
        """(model, tokenizer), loaded once."""
        if self._loaded is None:
            self._loaded = self.subject.load()
        return self._loaded

    def _size(self) -> dict[str, Any]:
        from llmtune.models.shape import read_shape

        if self.subject.gguf is None:
            parameters = read_shape(self.subject.folder).parameters
        else:
            parameters = sum(parameter.numel() for parameter in self.model[0].parameters())
        return {
            "parameters": parameters,
            "bytes": self.subject.bytes,
            "measured_with": self.subject.measured_with,
        }

    def _domain(self) -> dict[str, Any]:
        if not self.settings.tokens:
            return {}
        found = self._perplexity(self._held_out(), min(self.settings.tokens, self._affordable(0.5)), "held-out text")
        return {f"domain_{name}": value for name, value in found.items()}

    def _general(self) -> dict[str, Any]:
        tokens = min(self.settings.general_tokens, self._affordable(0.2))
        source = self.settings.general
        assert source is not None, "this part runs only with a source"
        documents = general_text(source, tokens * CHARACTERS_PER_TOKEN)
        return {f"general_{name}": value for name, value in self._perplexity(documents, tokens, "general text").items()}

    def _perplexity(self, documents: list[Document], tokens: int, what: str) -> dict[str, Any]:
        """exp of the mean loss over every token but the first of each text, and bits per byte of the same."""
        from llmtune.evaluate.likelihood import score, spans_of_text

        model, tokenizer = self.model
        spans = [span for text in texts_of(documents, tokens)
                 for span in spans_of_text(text, tokenizer, self.settings.row_tokens)]  # fmt: skip
        with self.monitor.bar(what, sum(len(span.tokens) for span in spans), "tokens") as bar:
            scored = score(spans, model, self._pad(), bar, self.monitor.safe_point)
        nats = math.fsum(one.nats for one in scored)
        count, size = sum(one.tokens for one in scored), sum(one.bytes for one in scored)
        if not count:
            return {"perplexity": None, "tokens": 0}
        return {
            "perplexity": math.exp(min(nats / count, 700.0)),
            "bits_per_byte": nats / math.log(2) / size,
            "tokens": count,
        }

    def _questions(self) -> dict[str, Any]:
        from llmtune.evaluate.likelihood import score, span_after

        count = min(self.settings.questions, self._affordable(0.3) // _QUESTION_TOKENS)
        questions = questions_of(self._held_out(), count, self.seed) if count else []
        if not questions:
            return {"questions": 0}
        model, tokenizer = self.model
        spans = [span_after(one.context, choice, tokenizer) for one in questions for choice in one.choices]
        with self.monitor.bar("questions", sum(len(span.tokens) for span in spans), "tokens") as bar:
            nats = [one.nats for one in score(spans, model, self._pad(), bar, self.monitor.safe_point)]
        right = []
        for number, question in enumerate(questions):
            of_choices = nats[number * len(question.choices) :][: len(question.choices)]
            right.append(of_choices.index(min(of_choices)) == question.answer)
        return _accuracy("domain", right) | {"questions": len(right)}

    def _own(self) -> dict[str, Any]:
        path = self.settings.own_questions
        assert path is not None, "this part runs only with questions"
        questions = read_own_questions(path)
        right = []
        with self.monitor.bar("your questions", len(questions), "questions") as bar:
            for question in questions:
                right.append(self._chooses(question) if question.choices else self._replies(question))
                bar.advance()
                self.monitor.safe_point()
        return _accuracy("own", right) | {"own_questions": len(right)}

    def _chooses(self, question: OwnQuestion) -> bool:
        """Whether the right choice has the least loss per byte (choices of a user differ in length)."""
        from llmtune.evaluate.likelihood import score, span_after

        model, tokenizer = self.model
        spans = [span_after(question.question, f" {choice}", tokenizer) for choice in question.choices]
        losses = [one.nats / one.bytes for one in score(spans, model, self._pad())]
        return question.choices[losses.index(min(losses))] == question.answer

    def _replies(self, question: OwnQuestion) -> bool:
        """Whether the greedy reply contains the answer, upper and lower case alike."""
        return question.answer.casefold() in self._reply(question.question).casefold()

    def _reply(self, prompt: str) -> str:
        from llmtune.evaluate.answers import reply

        return reply(*self.model, prompt, _ANSWER_TOKENS)

    def _speed(self) -> dict[str, Any]:
        if self.subject.gguf is not None:
            from llmtune.evaluate.speed import NEW, PROMPT, REPEATS, middle
            from llmtune.export.llama_runtime import LlamaRuntime

            with LlamaRuntime(self.subject.gguf) as runtime:
                prefill, decode = middle([runtime.speed(PROMPT, NEW) for _ in range(REPEATS + 1)][1:])
                memory = runtime.peak_memory()
        else:
            from llmtune.evaluate.speed import measure_speed

            prefill, decode = measure_speed(self.model[0])
            memory = _peak_memory()
        return {
            "prefill_tokens_per_second": prefill,
            "decode_tokens_per_second": decode,
            "peak_memory_bytes": memory,
        }

    def _held_out(self) -> list[Document]:
        assert self.corpus is not None, "this part runs only with a corpus"
        return list(read_split(self.corpus, self.settings.split))

    def _affordable(self, share: float) -> int:
        """Tokens that a modest CPU reads in this share of the time."""
        parameters = read_json(self.work / "size.json")["parameters"]
        return int(share * self.settings.minutes * 60 * REFERENCE_FLOPS / (2 * parameters))

    def _pad(self) -> int:
        tokenizer = self.model[1]
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def _accuracy(name: str, right: list[bool]) -> dict[str, Any]:
    low, high = wilson(sum(right), len(right))
    return {
        f"{name}_accuracy": sum(right) / len(right),
        f"{name}_accuracy_low": low,
        f"{name}_accuracy_high": high,
        f"{name}_right": "".join("1" if one else "0" for one in right),
    }


def _peak_memory() -> int:
    """Largest memory of this process so far, on the accelerator where there is one, in bytes."""
    import resource

    import torch

    if torch.accelerator.is_available():
        return int(torch.accelerator.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
