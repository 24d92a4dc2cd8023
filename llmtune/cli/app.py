"""The command line's table of commands. A module is imported only when its command is called.

To add a command: write `llmtune/cli/<name>.py` with one function whose parameters are Typer's (`Annotated[...,
typer.Argument(help=...)]`), or a `typer.Typer` where the command has sub-commands, and add its line to COMMANDS.
The function's docstring is the command's `--help`. It prints with rich, raises LlmtuneError for the user's mistakes
(`main` prints them) and `typer.Exit(code)` for another exit code. It imports torch only inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

PANEL_RUN = "From documents to a model"
PANEL_MODEL = "Models"
PANEL_RECIPE = "Recipes"
PANEL_HERE = "This machine"


@dataclass(frozen=True)
class Command:
    """One line of `llmtune --help`: where the command is (`module:attribute`), its panel and summary."""

    target: str
    panel: str
    summary: str


COMMANDS: dict[str, Command] = {
    "run": Command("llmtune.cli.run:run", PANEL_RUN, "Run a recipe; the same command goes on where it stopped."),
    "plan": Command("llmtune.cli.plan:plan", PANEL_RUN, "Say what each stage will need here, before running it."),
    "show-batch": Command(
        "llmtune.cli.show_batch:show_batch", PANEL_RUN, "Print real training batches, trained tokens in colour."
    ),
    "report": Command("llmtune.cli.report:report", PANEL_RUN, "Write the HTML report of a run."),
    "runs": Command("llmtune.cli.runs:runs", PANEL_RUN, "List runs and how far they are, or where what one made lies."),
    "corpus": Command("llmtune.cli.corpus:app", PANEL_RUN, "Look into a corpus: why a document was dropped, samples."),
    "annotate": Command(
        "llmtune.cli.annotate:app", PANEL_RUN, "Labels by people: export, agreement, merge, errors, what to label next."
    ),
    "chat": Command("llmtune.cli.chat:chat", PANEL_MODEL, "Talk to a model: a folder, a GGUF file, a bundle or a run."),
    "evaluate": Command("llmtune.cli.evaluate:evaluate", PANEL_MODEL, "Print the scores of any model on a corpus."),
    "validate": Command("llmtune.cli.validate:validate", PANEL_RECIPE, "Check a recipe; print its stages and inputs."),
    "recipes": Command("llmtune.cli.recipes:app", PANEL_RECIPE, "List the recipes that come along; copy one to start."),
    "schema": Command("llmtune.cli.schema:schema", PANEL_RECIPE, "Print the JSON schema of recipes, for an editor."),
    "doctor": Command("llmtune.cli.doctor:doctor", PANEL_HERE, "Versions, devices, extras, what will not work here."),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The summary alone, for help and completion of names; None for an unknown command."""
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        return TyperCommand(cmd_name, short_help=command.summary, rich_help_panel=command.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that will be called, imported. An import error here is shown like any other failure."""
        self.commands = {name: self.get_command(ctx, name) for name in COMMANDS}  # typer suggests a spelling from these
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest


def load_command(name: str) -> Any:
    """Import a command of COMMANDS and make it a click command under that name."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        command = get_command(target)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode="rich")
        single.command(name)(target)
        command = get_command(single)
    command.name = name
    return command


def build_app(debug: list[bool]) -> typer.Typer:
    """The app; `--debug` appends True to `debug`, which `main` reads when something fails."""
    app = typer.Typer(
        cls=LazyGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    # Both act while options are parsed: a command's module is imported, and can fail, before the callback's body.
    def show_version(asked: bool) -> None:
        if asked:
            from llmtune import __version__

            typer.echo(f"llmtune {__version__}")
            raise typer.Exit

    def set_debug(asked: bool) -> None:
        if asked:
            debug.append(True)

    @app.callback(epilog="Start with: [bold]llmtune recipes[/bold], then [bold]llmtune run RECIPE[/bold].")
    def root(
        version: bool = typer.Option(
            False, "--version", help="Print the version.", is_eager=True, callback=show_version
        ),
        show_traceback: bool = typer.Option(
            False, "--debug", help="Show tracebacks of errors.", is_eager=True, callback=set_debug
        ),
    ) -> None:
        """From a folder of your documents to a small, verified, deployable language model."""

    return app
