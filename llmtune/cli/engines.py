"""The two ways to talk to a model: llama.cpp for a GGUF file, transformers for a folder. One small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol

from llmtune.errors import LlmtuneError

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from llmtune.export.llama_runtime import LlamaRuntime

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn: at most so many tokens; temperature 0 takes the likeliest token each time."""

    max_tokens: int
    temperature: float
    seed: int


class Engine(Protocol):
    """A loaded model. `context`: tokens that a conversation and its answer may have together."""

    context: int

    def length(self, messages: Messages) -> int:
        """Tokens of a conversation as the model reads it. Raises LlmtuneError when the chat template refuses it."""

    def answer(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        """Pieces of the answer as they come; leaving the loop early stops the model."""

    def close(self) -> None:
        """Free the model."""


def open_engine(model: Path, context: int, *, trust_remote_code: bool = False) -> Engine:
    """Load a GGUF file or a Hugging Face folder."""
    if model.suffix == ".gguf":
        return LlamaEngine(model, context)
    return TransformersEngine(model, context, trust_remote_code=trust_remote_code)


class LlamaEngine:
    """A GGUF file in llama.cpp."""

    def __init__(self, gguf: Path, context: int) -> None:
        from llmtune.export.llama_runtime import LlamaRuntime
        from llmtune.models.gguf_header import read_gguf_header

        # llama.cpp gives no more than the model was trained for, without a word, and refuses what is longer.
        self.context = min(context, read_gguf_header(gguf).context_length or context)
        self._runtime: LlamaRuntime = LlamaRuntime(gguf, context=self.context)

    def length(self, messages: Messages) -> int:
        return len(self._runtime.tokenize(self._runtime.apply_template(messages)))

    def answer(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        return self._runtime.stream(messages, sampling.max_tokens, sampling.temperature, sampling.seed)

    def close(self) -> None:
        self._runtime.close()


class TransformersEngine:
    """A Hugging Face folder in transformers, on the first accelerator torch has, else the CPU.

    A model without a chat template continues the text of the last message. At temperature 0 it answers as in the
    report; above, the rest of the sampling is as the model's own generation configuration has it."""

    def __init__(self, folder: Path, context: int, *, trust_remote_code: bool = False) -> None:
        from llmtune.evaluate.likelihood import context_limit
        from llmtune.models.load import load_to_run, load_tokenizer

        self._tokenizer: Any = load_tokenizer(folder, trust_remote_code=trust_remote_code)
        self._model: Any = load_to_run(folder, trust_remote_code=trust_remote_code)
        self.context = min(context, context_limit(self._model) or context)

    def length(self, messages: Messages) -> int:
        return len(self._encode(messages))

    def answer(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        import torch
        from transformers import TextIteratorStreamer
        from transformers.generation import StoppingCriteria

        from llmtune.evaluate.generation import DECODING, generating_by

        stopped = Event()

        class Stop(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
                return torch.full((input_ids.shape[0],), stopped.is_set(), device=input_ids.device)

        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, **DECODING)
        failure: list[BaseException] = []

        def generate() -> None:
            try:
                torch.manual_seed(sampling.seed)
                ids = torch.tensor([self._encode(messages)], device=self._model.device)
                with generating_by(self._model, self._configuration(sampling)):
                    self._model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        streamer=streamer,
                        stopping_criteria=[Stop()],
                    )
            except BaseException as error:
                failure.append(error)
            finally:
                streamer.end()

        thread = Thread(target=generate, name="llmtune (generate)", daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            stopped.set()
            thread.join()
        if failure:
            raise failure[0]

    def close(self) -> None:
        del self._model

    def _configuration(self, sampling: Sampling) -> GenerationConfig:
        from llmtune.evaluate.generation import ends_of, greedy

        if not sampling.temperature:
            return greedy(self._model, self._tokenizer, sampling.max_tokens)
        config: GenerationConfig = deepcopy(self._model.generation_config)
        config.update(
            do_sample=True,
            temperature=sampling.temperature,
            num_beams=1,  # beams cannot be streamed
            eos_token_id=ends_of(self._model, self._tokenizer),
            max_new_tokens=sampling.max_tokens,
            pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
        )
        return config

    def _encode(self, messages: Messages) -> list[int]:
        try:
            return self._rendered(messages)
        except LlmtuneError as error:
            raise self._refused(messages, error) from error.__cause__

    def _rendered(self, messages: Messages) -> list[int]:
        """The conversation as token ids."""
        from llmtune.corpus.store import Message
        from llmtune.evaluate.generation import prompt_ids

        return prompt_ids([Message(**message) for message in messages], self._tokenizer, "chat")

    def _refused(self, messages: Messages, error: LlmtuneError) -> LlmtuneError:
        """The error to show when the template refuses a conversation: whether it takes it without the system message
        tells what it is that it refuses."""
        if messages[0]["role"] == "system":
            try:
                self._rendered(messages[1:])
            except LlmtuneError:
                pass
            else:
                return LlmtuneError(
                    "the model's chat template refuses a conversation that starts with a system message: "
                    f"{error.__cause__}",
                    fix="leave --system out, and say it in your first message",
                )
        return LlmtuneError(error.what, fix="put a chat_template.jinja that takes it beside the model's tokenizer")
