"""Measures one model: the parts one after the other, each saved when it is done, so that a killed evaluation goes on.

The scores (`scores.json`) are described in docs/evaluate.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.corpus.store import Document
from llmtune.corpus.text import document_text
from llmtune.errors import CannotRunHere, LlmtuneError
from llmtune.evaluate.intervals import accuracy_fields
from llmtune.evaluate.knowledge import knowledge_questions, training_documents
from llmtune.evaluate.own import OwnQuestion, read_own_questions
from llmtune.evaluate.passages import Split, general_documents, questions_of, text_fingerprint, texts_of
from llmtune.evaluate.settings import (
    DOMAIN_SHARE,
    GENERAL_SHARE,
    QUESTION_TOKENS,
    QUESTIONS_SHARE,
    EvaluateSettings,
)
from llmtune.evaluate.subject import find_subject
from llmtune.files import files_below, fingerprint, read_json, stamps, write_json
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from llmtune.evaluate.likelihood import Span

_ASKED = "asked.json"  # the knowledge questions with the model's choices
_ANSWER_TOKENS = 64  # of a free answer

Part = Callable[[], dict[str, Any]]


def evaluate_model(
    folder: Path,
    settings: EvaluateSettings,
    corpus: Path | None,
    work: Path,
    seed: int,
    monitor: Monitor | None = None,
    *,
    reference_parameters: int | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """The scores of the model in `folder` (checkpoint, bundle, or a .gguf file).

    corpus: artifact folder whose held-out split is measured; None leaves the domain's figures out
    work:   folder for finished parts: a second call with the same arguments goes on from them
    reference_parameters: size of the model that `settings.minutes` is reckoned for, so that models of different sizes
            are measured on the same text; None: this model's own
    trust_remote_code: run Python code that comes with the model
    """
    monitor = monitor or Monitor()
    return Evaluation(folder, settings, corpus, work, seed, monitor, reference_parameters, trust_remote_code).run()


class Evaluation:
    """The parts of one model's scores. The model is loaded when the first part needs it.

    work: folder of the finished parts, below the one given: each model, corpus and text has its own
    """

    def __init__(
        self,
        folder: Path,
        settings: EvaluateSettings,
        corpus: Path | None,
        work: Path,
        seed: int,
        monitor: Monitor,
        reference_parameters: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.subject = find_subject(folder, trust_remote_code)
        self.settings, self.corpus, self.seed, self.monitor = settings, corpus, seed, monitor
        self.reference_parameters = reference_parameters
        of_corpus = [str(corpus.resolve()), stamps(files_below(corpus), corpus)] if corpus is not None else None
        of_model, settled = self.subject.stamps(), settings.identity()
        self.work = work / fingerprint([of_model, of_corpus, settled, seed, reference_parameters])
        self._loaded: tuple[Any, Any] | None = None

    def run(self) -> dict[str, Any]:
        """All parts; saved ones are taken as they are."""
        import torch

        scores: dict[str, Any] = {}
        with torch.inference_mode():
            for name, measure in self._parts():
                saved = self.work / f"{name}.json"
                if not saved.is_file():
                    self.monitor.safe_point()
                    write_json(saved, self._measured(measure))
                scores |= read_json(saved)
        return scores

    def asked(self) -> Any:
        """The knowledge questions that were asked, with the model's choices, as records of JSON."""
        return read_json(self.work / _ASKED)

    def _parts(self) -> list[tuple[str, Part]]:
        """Speed comes before the texts, so that memory they leave behind is not in its peak."""
        settings = self.settings
        parts: list[tuple[str, Part]] = [("size", self._size)]
        if settings.speed:
            parts.append(("speed", self._speed))
        if self.corpus is not None:
            parts += [("domain", self._domain), ("questions", self._questions), ("knowledge", self._knowledge)]
        if settings.general is not None:
            parts.append(("general", self._general))
        if settings.own_questions is not None:
            parts.append(("own", self._own))
        return parts

    def _measured(self, measure: Part) -> dict[str, Any]:
        """What a part measures; of a GGUF file that cannot be read back into transformers only the reason."""
        try:
            return measure()
        except CannotRunHere as error:
            if self.subject.gguf is None:
                raise
            self.monitor.note(f"Not measured: {error.what}")
            return {"not_measured": error.what}

    @property
    def model(self) -> tuple[Any, Any]:
        """(model, tokenizer), loaded once."""
        if self._loaded is None:
            self._loaded = self.subject.load(self.work, self.monitor)
        return self._loaded

    def _size(self) -> dict[str, Any]:
        return {
            "parameters": self.subject.parameters,
            "bytes": self.subject.bytes,
            "measured_with": self.subject.measured_with,
        }

    def _domain(self) -> dict[str, Any]:
        tokens = min(self.settings.tokens, self._affordable(DOMAIN_SHARE))
        return (
            self._perplexity("domain", texts_of(self._held_out(), tokens, self.settings.row_tokens), "held-out text")
            if tokens
            else {}
        )

    def _general(self) -> dict[str, Any]:
        tokens = min(self.settings.general_tokens, self._affordable(GENERAL_SHARE))
        source = self.settings.general
        if not tokens or source is None:
            return {}
        documents = general_documents(source, tokens)
        return self._perplexity("general", texts_of(documents, tokens, self.settings.row_tokens), "general text")

    def _perplexity(self, name: str, texts: Sequence[str | Document], what: str) -> dict[str, Any]:
        """exp of the mean loss over every token but the first of each text, or over the answers of each conversation,
        and bits per byte of the same."""
        from llmtune.evaluate.conversations import spans_of_answers
        from llmtune.evaluate.likelihood import context_limit, spans_of_text

        model, tokenizer = self.model
        row_tokens = min(self.settings.row_tokens, context_limit(model) or self.settings.row_tokens)
        spans: list[Span] = []
        read: list[str] = []  # what stands for each text in the fingerprint
        for text in texts:
            words = document_text(text) if isinstance(text, Document) else text
            if isinstance(text, str) or not tokenizer.chat_template:
                spans += spans_of_text(words, tokenizer, row_tokens)
                read.append(words)
                continue
            try:
                spans += spans_of_answers(text, tokenizer, row_tokens)
            except CannotRunHere:
                raise
            except LlmtuneError as error:  # the template refuses it
                self.monitor.note(f"Not measured: {error}")
                continue
            read.append(f"answers\0{words}")  # not to be compared with all the words of it
        scored = self._scored(spans, what)
        count = sum(one.tokens for one in scored)
        if not count:
            return {f"{name}_tokens": 0}
        nats, size = math.fsum(one.nats for one in scored), sum(one.bytes for one in scored)
        return {
            f"{name}_perplexity": math.exp(min(nats / count, 700.0)),  # beyond, no float holds it
            f"{name}_bits_per_byte": nats / math.log(2) / size,
            f"{name}_tokens": count,
            f"{name}_text": text_fingerprint(read),
        }

    def _questions(self) -> dict[str, Any]:
        count = min(self.settings.questions, self._affordable(QUESTIONS_SHARE) // QUESTION_TOKENS)
        questions = questions_of(self._held_out(), count, self.seed) if count else []
        if not questions:
            return {"questions": 0}
        chosen = self._choices([(one.context, one.choices) for one in questions], "questions")
        right = [choice == one.answer for choice, one in zip(chosen, questions, strict=True)]
        text = text_fingerprint(part for one in questions for part in (one.context, *one.choices, str(one.answer)))
        return accuracy_fields("domain", right) | {"questions": len(right), "domain_questions_text": text}

    def _knowledge(self) -> dict[str, Any]:
        """Leaves the questions with the model's choices in the work folder, for `asked`."""
        from llmtune.evaluate.examination import as_records, choose, knowledge_scores

        assert self.corpus is not None
        count = min(self.settings.knowledge, self.settings.affordable_knowledge(self._reference()))
        questions = knowledge_questions(training_documents(self.corpus), count) if count else []
        chosen = choose(questions, *self.model, self.monitor) if questions else []
        write_json(self.work / _ASKED, as_records(questions, chosen))
        return knowledge_scores(questions, chosen)

    def _own(self) -> dict[str, Any]:
        if self.settings.own_questions is None:
            return {}
        questions = read_own_questions(self.settings.own_questions)
        with_choices = [one for one in questions if one.choices]
        asked = [(one.question, tuple(f" {choice}" for choice in one.choices)) for one in with_choices]
        chosen = dict(zip(with_choices, self._choices(asked, "your questions"), strict=True))
        right = []
        with self.monitor.bar("your questions with a free answer", len(questions) - len(chosen), "questions") as bar:
            for one in questions:
                if one.choices:
                    right.append(one.choices[chosen[one]] == one.answer)
                    continue
                right.append(self._replies(one))
                bar.advance()
                self.monitor.safe_point()
        text = text_fingerprint(part for one in questions for part in (one.question, *one.choices, one.answer))
        return accuracy_fields("own", right) | {"own_questions": len(right), "own_questions_text": text}

    def _choices(self, asked: Sequence[tuple[str, Sequence[str]]], what: str) -> list[int]:
        """Of each (context, continuations) the continuation with the least loss per byte: they differ in length."""
        from llmtune.evaluate.choices import branch_nats, branches_of, tokens_of
        from llmtune.evaluate.likelihood import context_limit

        if not asked:
            return []
        model, tokenizer = self.model
        limit = context_limit(model)
        branches = [branches_of(context, choices, tokenizer, limit) for context, choices in asked]
        with self.monitor.bar(what, sum(map(tokens_of, branches)), "tokens") as bar:
            nats = branch_nats(branches, model, bar, self.monitor.safe_point)
        found = []
        for (_, choices), of_choices in zip(asked, nats, strict=True):
            losses = [loss / len(choice.encode()) for loss, choice in zip(of_choices, choices, strict=True)]
            found.append(losses.index(min(losses)))
        return found

    def _scored(self, spans: Sequence[Span], what: str) -> list[Any]:
        from llmtune.evaluate.likelihood import score

        if not spans:
            return []
        with self.monitor.bar(what, sum(len(span.tokens) for span in spans), "tokens") as bar:
            return list(score(spans, self.model[0], bar, self.monitor.safe_point))

    def _replies(self, question: OwnQuestion) -> bool:
        """Whether the greedy reply contains the answer as whole words, upper and lower case alike: "no" is not in
        "know"."""
        from llmtune.evaluate.answers import reply

        said = reply(*self.model, question.question, _ANSWER_TOKENS, asked=not question.continued)
        answer = re.escape(question.answer.strip().casefold())
        return re.search(rf"(?<!\w){answer}(?!\w)", said.casefold()) is not None

    def _speed(self) -> dict[str, Any]:
        from llmtune.evaluate.speed import REPEATS, forget_peak_memory, lengths, measure_speed, middle, peak_memory

        if self.subject.gguf is not None:
            from llmtune.export.llama_runtime import LlamaRuntime

            prompt, new = lengths(self.subject.gguf_context)
            with LlamaRuntime(self.subject.gguf) as runtime:
                prefill, decode = middle([runtime.speed(prompt, new) for _ in range(REPEATS + 1)][1:])
                memory = runtime.peak_memory()
        else:
            model = self.model[0]
            forget_peak_memory()
            prefill, decode = measure_speed(model, self.monitor.safe_point)
            memory = peak_memory()
        return {
            "prefill_tokens_per_second": prefill,
            "decode_tokens_per_second": decode,
            "peak_memory_bytes": memory,
        }

    def _held_out(self) -> Iterable[Document]:
        return Split(self.corpus, self.settings.split) if self.corpus is not None else []

    def _affordable(self, share: float) -> int:
        """Tokens that a modest CPU reads in this share of the time."""
        return self.settings.affordable_tokens(share, self._reference())

    def _reference(self) -> int:
        """Parameters of the model that `minutes` is reckoned for."""
        return int(self.reference_parameters or read_json(self.work / "size.json")["parameters"])
