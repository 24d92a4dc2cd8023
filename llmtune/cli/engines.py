"""The two ways to talk to a model: llama.cpp for a GGUF file, transformers for a folder. One small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol

from llmtune.errors import LlmtuneError

if TYPE_CHECKING:
    from llmtune.export.llama_runtime import LlamaRuntime

# Text as the tokens spell it, without the spaces before punctuation taken away.
DECODING = {"clean_up_tokenization_spaces": False}

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
        self.context = min(context, int(read_gguf_header(gguf).number("context_length") or context))
        self._runtime: LlamaRuntime = LlamaRuntime(gguf, context=self.context)

    def length(self, messages: Messages) -> int:
        return len(self._runtime.tokenize(self._runtime.apply_template(messages)))

    def answer(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        return self._runtime.stream(messages, sampling.max_tokens, sampling.temperature, sampling.seed)

    def close(self) -> None:
        self._runtime.close()


class TransformersEngine:
    """A Hugging Face folder in transformers, on the first accelerator torch has, else the CPU.

    A model without a chat template continues the text of the last message."""

    def __init__(self, folder: Path, context: int, *, trust_remote_code: bool = False) -> None:
        from llmtune.models.load import load_to_run, load_tokenizer

        self._tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
        self._model: Any = load_to_run(folder, trust_remote_code=trust_remote_code)
        trained = getattr(self._model.config, "max_position_embeddings", None) or context
        self.context = min(context, trained)

    def length(self, messages: Messages) -> int:
        return int(self._encode(messages)["input_ids"].shape[1])

    def answer(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        import torch
        from transformers import TextIteratorStreamer
        from transformers.generation import StoppingCriteria

        stopped = Event()

        class Stop(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
                return torch.full((input_ids.shape[0],), stopped.is_set(), device=input_ids.device)

        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True, **DECODING)
        failure: list[BaseException] = []
        options = {"do_sample": True, "temperature": sampling.temperature} if sampling.temperature else {}

        def generate() -> None:
            try:
                torch.manual_seed(sampling.seed)
                self._model.generate(
                    **self._encode(messages).to(self._model.device),
                    **({"do_sample": False} | options),
                    max_new_tokens=sampling.max_tokens,
                    pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
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

    def _encode(self, messages: Messages) -> Any:
        """The conversation as token ids, (1, T)."""
        from jinja2.exceptions import TemplateError

        if self._tokenizer.chat_template is None:
            return self._tokenizer(messages[-1]["content"], return_tensors="pt")
        try:
            return self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise _refused(messages, error) from error


def _refused(messages: Messages, error: Exception) -> LlmtuneError:
    if messages[0]["role"] == "system":
        return LlmtuneError(
            f"the model's chat template refuses a conversation that starts with a system message: {error}",
            fix="leave --system out, and say it in your first message",
        )
    return LlmtuneError(
        f"the model's chat template refuses this conversation: {error}",
        fix="put a chat_template.jinja that takes it beside the model's tokenizer",
    )
