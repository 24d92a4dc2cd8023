"""`llmtune chat`: talk to a model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from llmtune.cli.engines import Engine, Sampling, open_engine
from llmtune.cli.options import TrustOption
from llmtune.cli.progress import TerminalMonitor
from llmtune.cli.target import find_model
from llmtune.errors import LlmtuneError

if TYPE_CHECKING:
    from rich.console import Console

HELP = "Enter a message. /reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C stops an answer."


def chat(
    model: Annotated[
        str, typer.Argument(help="A GGUF file, a model folder, a bundle, a run folder, or a model's name.")
    ],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Answer this one message and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="System message that the conversation starts with.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token each time, as the report.")] = 0.7,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling: the same seed gives the same answer.")] = 0,
    context: Annotated[
        int,
        typer.Option(min=64, help="Tokens that conversation and answer may have together, if the model has so many."),
    ] = 4096,
    trust_remote_code: TrustOption = False,
) -> None:
    """Talk to a model, its answer shown as it comes. With --prompt, or text piped in, it answers once and leaves."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    once = prompt if prompt is not None else _piped()
    # Libraries that tell of themselves while they are imported (DeepSpeed) must not do so among the answers.
    with TerminalMonitor() as monitor, redirect_stdout(sys.stderr):
        target = find_model(model, monitor, trust_remote_code=trust_remote_code)
        with monitor.bar(f"loading {target.name}"):
            engine = open_engine(target, context, trust_remote_code=trust_remote_code)
    conversation = Conversation(engine, system, Sampling(max_tokens, temperature, seed), console.print)
    try:
        if once is not None:
            conversation.say(once)
        else:
            console.print(f"[bold]{escape(target.name)}[/]. {HELP}")
            _loop(conversation, console)
    finally:
        engine.close()


class Conversation:
    """The messages so far, and the model that answers them."""

    def __init__(self, engine: Engine, system: str | None, sampling: Sampling, note: Callable[[str], object]) -> None:
        self._engine = engine
        self._sampling = sampling
        self._note = note
        self._opening = [{"role": "system", "content": system}] if system else []
        self.turns: list[dict[str, str]] = []

    def say(self, text: str) -> str:
        """Send a message, print the answer as it comes, and keep both; Ctrl-C ends the answer, not the chat. Raises
        LlmtuneError, and forgets the message, when it does not fit the context or the model fails."""
        message = {"role": "user", "content": text}
        self._refuse_too_long(message)
        self.turns.append(message)
        try:
            self._make_room()
            answer = self._answer()
        except BaseException:
            self.turns.pop()
            raise
        self.turns.append({"role": "assistant", "content": answer})
        return answer

    def reset(self) -> None:
        """Forget everything but the system message."""
        self.turns.clear()

    def _answer(self) -> str:
        """Print the answer to the last message as it comes; Ctrl-C ends it."""
        room = self._engine.context - self._length(self.turns)
        sampling = replace(self._sampling, max_tokens=min(self._sampling.max_tokens, room))
        pieces: list[str] = []
        answer = self._engine.answer([*self._opening, *self.turns], sampling)
        try:
            for piece in answer:
                pieces.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
        except KeyboardInterrupt:
            answer.close()  # type: ignore[attr-defined]
            self._note("[dim](stopped)[/]")
        sys.stdout.write("\n")
        return "".join(pieces)

    def _length(self, turns: list[dict[str, str]]) -> int:
        return self._engine.length([*self._opening, *turns])

    def _refuse_too_long(self, message: dict[str, str]) -> None:
        length, context = self._length([message]), self._engine.context
        if length >= context:
            raise LlmtuneError(
                f"this message has {length:,} tokens (template and system message with it); "
                f"conversation and answer may have {context:,} together",
                fix="shorten it, or start the chat with a larger --context where the model allows it",
            )

    def _make_room(self) -> None:
        """Forget the oldest exchanges until the conversation and an answer fit the context."""
        forgot = 0
        room = self._engine.context - min(self._sampling.max_tokens, self._engine.context // 2)
        while len(self.turns) > 2 and self._length(self.turns) > room:
            del self.turns[:2]
            forgot += 1
        if forgot:
            self._note(f"[dim](the context is full: {forgot} of the oldest exchanges are forgotten)[/]")


def _piped() -> str | None:
    """All of standard input when it is no terminal."""
    if sys.stdin.isatty():
        return None
    text = sys.stdin.read().strip()
    if not text:
        raise LlmtuneError("nothing to answer: standard input is empty", fix="pipe a message in, or use --prompt")
    return text


def _loop(conversation: Conversation, console: Console) -> None:
    """Read messages from the terminal until the end; an error is told and the conversation goes on."""
    try:
        import readline  # noqa: F401  line editing and history for input(), where the platform has it
    except ImportError:
        pass
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        if text in {"/quit", "/exit"}:
            return
        if text == "/reset":
            conversation.reset()
        elif text:
            try:
                conversation.say(text)
            except LlmtuneError as error:
                console.print(f"error: {error}", markup=False)
