"""`llmtune show-batch`: the batches a training stage would get, as text."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtune.cli.options import Overrides, RecipeArgument, RunsOption
from llmtune.cli.progress import TerminalMonitor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llmtune.artifacts import Artifact
    from llmtune.models.reference import ModelReference
    from llmtune.monitor import Monitor
    from llmtune.recipe import Node, Recipe
    from llmtune.training.settings import TrainSettings

PAIRS = 2  # augmented documents to show beside their originals


def show_batch(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    stage: Annotated[str | None, typer.Option(help="Id of the training stage; default: the first.")] = None,
    batches: Annotated[int, typer.Option(min=1, help="How many batches (of `micro_batch` rows) to show.")] = 1,
    whole: Annotated[bool, typer.Option("--whole", help="Print documents whole, not their beginning and end.")] = False,
    speed: Annotated[
        float | None, typer.Option(min=0, help="Tokens/s of training: say how many of them padding takes.")
    ] = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Print the first batches of training as the model gets them, from the collator itself: where documents begin,
    which tokens are trained, which are context, what is padding, and what padding would cost. With masking, a row's
    text beside what is read of it in two epochs; of an augmented corpus, a few texts beside their originals.

    Makes the recipe's corpus if there is none yet, and keeps the rows made of it for the next time. Loads the tokenizer
    of the model, not its weights.
    """
    from rich.console import Console

    from llmtune.augment.pairs import augmented_pairs
    from llmtune.errors import CannotRunHere
    from llmtune.models.find import find_shape
    from llmtune.recipe import load_recipe
    from llmtune.run import rows_aside
    from llmtune.training.collate import collator_for
    from llmtune.training.data import rows_for
    from llmtune.training.isolation import PACKED, isolation_of
    from llmtune.training.masking import masking_problem
    from llmtune.training.show import show_batches
    from llmtune.training.show_pairs import pairs_table

    console = Console()
    loaded = load_recipe(recipe, overrides or [])
    node, settings = _training_stage(loaded, stage)
    shape = find_shape(loaded.model)
    if problem := masking_problem(settings.masking, shape.config):
        raise CannotRunHere(problem)
    corpus = _corpus(recipe, overrides or [], node.inputs["corpus"], runs)
    isolate = isolation_of(shape.config)
    with TerminalMonitor() as monitor:
        tokenizer = _tokenizer(loaded.model, monitor)
        with rows_aside(runs, monitor) as cache:
            rows = rows_for(settings, isolate, corpus.folder, "train", tokenizer, cache=cache, monitor=monitor)
    if isolate not in PACKED:
        console.print(f"[dim]{shape.family} cannot keep documents apart within a row: one document a row[/]")
    for part in show_batches(
        rows,
        collator_for(settings, isolate, tokenizer, shape.config, settings.own_seed(loaded.seed)),
        tokenizer,
        batches=batches,
        batch_rows=settings.batch_rows,
        micro_batch=settings.micro_batch,
        seed=settings.order_seed(loaded.seed),
        document_tokens=None if whole else 160,
        plain=console.color_system is None,
        tokens_per_second=speed,
    ):
        console.print(part, highlight=False)
    if pairs := list(islice(augmented_pairs(corpus.folder), PAIRS)):
        console.print(pairs_table(pairs, whole=whole), highlight=False)


def _training_stage(recipe: Recipe, stage_id: str | None) -> tuple[Node, TrainSettings]:
    """The stage asked for, or the first that trains on a corpus; raises RecipeError."""
    from llmtune.errors import RecipeError
    from llmtune.recipe import resolve_inputs
    from llmtune.training.settings import TrainSettings

    found: dict[str, tuple[Node, TrainSettings]] = {}
    for node in resolve_inputs(recipe):
        settings: object = node.stage
        if isinstance(settings, TrainSettings) and "corpus" in node.inputs:
            found[node.id] = (node, settings)
    if stage_id is None and found:
        return next(iter(found.values()))
    if stage_id in found:
        return found[stage_id]
    known = f"training stages of this recipe: {', '.join(found)}" if found else "the recipe has no training stage"
    asked = f"'{stage_id}' is no training stage" if stage_id else "nothing to show: no stage trains on a corpus"
    raise RecipeError(asked, where=f"recipe '{recipe.name}'", fix=known)


def _corpus(recipe: Path, overrides: list[str], stage_id: str, runs: Path) -> Artifact:
    """The corpus, made now if need be; that is told on stderr, as `llmtune run` tells it."""
    from rich.console import Console

    from llmtune.run import artifact_for
    from llmtune.run.display import TerminalDisplay

    display = TerminalDisplay(Console(stderr=True))
    try:
        return artifact_for(recipe, overrides, stage_id, runs, display)
    finally:
        display.close()


def _tokenizer(reference: ModelReference, monitor: Monitor) -> PreTrainedTokenizerBase:
    """The tokenizer alone where the model is on the hub; else that of the folder (a GGUF file is converted once).
    Raises CannotRunHere when it cannot be had, or not be kept where such things are."""
    from llmtune.errors import CannotRunHere
    from llmtune.models.find import resolve
    from llmtune.models.load import load_tokenizer

    options: dict[str, Any] = {"trust_remote_code": reference.trust_remote_code}
    try:
        if reference.hub_id is None:
            return load_tokenizer(resolve(reference, monitor), **options)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(reference.hub_id, revision=reference.revision, **options)  # type: ignore[no-any-return]
    except OSError as error:
        online = "go online, set HF_TOKEN for a private model, or give the model's folder"
        kept = "mend that, or keep models elsewhere: LLMTUNE_CACHE and HF_HOME name the folders"
        raise CannotRunHere(
            f"the tokenizer of '{reference.name}' cannot be had: {str(error).splitlines()[0]}",
            fix=kept if error.filename else online,
        ) from error
