"""`llmtune evaluate`: the scores of any model, without a recipe."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from llmtune.cli.options import TrustOption
from llmtune.cli.progress import TerminalMonitor
from llmtune.cli.target import find_corpus, find_model
from llmtune.errors import LlmtuneError


def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="GGUF files, model folders, bundles, run folders or names of models.")
    ],
    corpus: Annotated[
        Path | None, typer.Option("--corpus", "-c", help="A corpus folder, or a run whose corpus to take.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time that one model may take.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Held-out tokens for the perplexity.")] = None,
    questions: Annotated[int | None, typer.Option(help="Questions made from held-out documents.")] = None,
    knowledge: Annotated[int | None, typer.Option(help="Questions about what the training documents define.")] = None,
    general: Annotated[str | None, typer.Option(help="General text: a file or folder, `licences`, or `none`.")] = None,
    own_questions: Annotated[Path | None, typer.Option(help="Your own questions, a JSON-lines file.")] = None,
    speed: Annotated[bool, typer.Option(help="Measure prefill and decode speed.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Draws the questions.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the scores to this file, as JSON.")] = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Print the scores of one or more models side by side; the first is what the others are compared with.

    Without --corpus only general text, your own questions, size and speed are measured.
    """
    from rich.console import Console

    from llmtune.evaluate.scorecard import Scorecard
    from llmtune.evaluate.scores import evaluate_model
    from llmtune.files import write_json

    given: dict[str, Any] = {"minutes": minutes, "tokens": tokens, "questions": questions, "knowledge": knowledge}
    given |= {"own_questions": own_questions}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None} | {"speed": speed}
    if general is not None:
        chosen["general"] = None if general == "none" else general
    settings = _settings(chosen)
    held_out = find_corpus(corpus) if corpus else None
    scores: dict[str, dict[str, Any]] = {}
    # Libraries that tell of themselves while they are imported (DeepSpeed) must not do so where the scorecard goes.
    with TerminalMonitor() as monitor, redirect_stdout(sys.stderr):
        for name in models:
            with TemporaryDirectory(prefix="llmtune-evaluate-") as work:
                folder = find_model(name, monitor, trust_remote_code=trust_remote_code)
                first = next(iter(scores.values()), {}).get("parameters")
                scores[name] = evaluate_model(
                    folder,
                    settings,
                    held_out,
                    Path(work),
                    seed,
                    monitor,
                    reference_parameters=first,
                    trust_remote_code=trust_remote_code,
                )
    Console().print(Scorecard(scores).table())
    if out is not None:
        write_json(out, scores)


def _settings(chosen: dict[str, Any]) -> Any:
    """EvaluateSettings of the options given; their faults as one message."""
    from pydantic import ValidationError

    from llmtune.evaluate.settings import EvaluateSettings

    try:
        return EvaluateSettings.model_validate(chosen, context={"folder": Path.cwd()})
    except ValidationError as error:
        faults = [
            f"--{'-'.join(map(str, fault['loc'][:1])).replace('_', '-')}: {fault['msg']}" for fault in error.errors()
        ]
        raise LlmtuneError("; ".join(dict.fromkeys(faults))) from error
