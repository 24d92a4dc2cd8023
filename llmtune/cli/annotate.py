"""`llmtune annotate`: labels for documents, made by people and measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from llmtune.annotate.labels import Labels

app = typer.Typer(
    no_args_is_help=True,
    help="Labels for documents: export a sample for people to label, measure how far they agree, merge their labels, "
    "find wrong ones, choose what to label next.",
    rich_markup_mode="rich",
    add_completion=False,
)

CorpusArgument = Annotated[
    Path, typer.Argument(metavar="CORPUS", help="A corpus folder, or a run whose corpus to take.", show_default=False)
]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="FILES...", help="Labelled files: CSV, JSONL, Label Studio's exports.", show_default=False),
]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A labelled file of one annotator, or merged.", show_default=False)
]
OutFolder = Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.", show_default=False)]
OutFile = Annotated[Path, typer.Argument(metavar="OUT", help="A new .jsonl or .csv file.", show_default=False)]
ExportOption = Annotated[
    Path | None,
    typer.Option("--export", help="The folder that `export` wrote, where the files no longer lie in it."),
]
NumberOption = Annotated[int, typer.Option("--number", "-n", min=1, help="How many documents.")]
SplitOption = Annotated[str, typer.Option(help="train, valid or test.")]
FormatOption = Annotated[Literal["csv", "jsonl", "label-studio"], typer.Option(help="What annotators get.")]
AnnotatorsOption = Annotated[int, typer.Option(min=1, help="Files to write, with the same documents in each.")]
CharactersOption = Annotated[int, typer.Option(min=1, help="Of a longer text only the beginning is shown.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another seed chooses other documents.")]


@app.command("export")
def export(
    corpus: CorpusArgument,
    out: OutFolder,
    labels: Annotated[str, typer.Option(help="The labels to choose from: spam,ham", show_default=False)],
    number: NumberOption = 200,
    split: SplitOption = "train",
    format: FormatOption = "csv",
    annotators: AnnotatorsOption = 1,
    characters: CharactersOption = 8000,
    seed: SeedOption = 0,
) -> None:
    """Write a sample of a corpus for people to label, spread over its sources."""
    from llmtune.annotate.export import labels_in, write_export
    from llmtune.annotate.tasks import places_of, sample, split_in, tasks_of
    from llmtune.cli.target import find_made_corpus

    asked, folder = labels_in(labels), find_made_corpus(corpus)
    split_in(folder, split)
    tasks = tasks_of(folder, [split], sample(places_of(folder, split), number, seed), characters)
    names = write_export(out, tasks, asked, format, annotators)
    _console().print(f"{len(tasks):,} documents to label in {out}: {', '.join(names)}")


@app.command("agreement")
def agreement(
    files: FilesArgument,
    export: ExportOption = None,
    number: Annotated[int, typer.Option("--number", "-n", min=0, help="How many disputed documents to list.")] = 20,
) -> None:
    """Say how far annotators agree: kappa of each two, Krippendorff's alpha, and what they disagree on."""
    from rich.table import Table

    from llmtune.annotate.agreement import agreement_of, confusion
    from llmtune.annotate.labels import read_labels
    from llmtune.words import visible

    console, labels = _console(), read_labels(files, export)
    _print_labels(console, labels)
    found = agreement_of(labels)
    console.print("annotators: " + ", ".join(f"{name} {count:,}" for name, count in found.annotators.items()))
    console.print(f"{found.items:,} documents labelled, {found.shared:,} by two annotators or more")
    if not found.pairs:
        console.print("no document has labels of two annotators: there is nothing to compare")
        return
    console.print(f"equal labels: {found.same:.1%} of pairs")
    console.print(f"Krippendorff's alpha: {_or_none(found.alpha)}")
    table = Table("annotators", "documents", "equal", "Cohen's kappa")
    for pair in found.pairs:
        table.add_row(f"{pair.first} and {pair.second}", f"{pair.shared:,}", f"{pair.same:.1%}", _or_none(pair.kappa))
    console.print(table)
    if not found.disputed:
        return
    worst = min(found.pairs, key=lambda pair: pair.same)
    table = Table(f"{worst.first} ↓  {worst.second} →", *labels.names, title="The two who disagree most")
    for name, row in zip(labels.names, confusion(labels.votes, labels.names, worst.first, worst.second), strict=True):
        table.add_row(name, *map(str, row))
    console.print(table)
    console.print(f"{len(found.disputed):,} disputed documents:")
    for id in found.disputed[:number]:
        console.print(f"  {visible(id)}: " + ", ".join(f"{who} {label}" for who, label in labels.votes[id].items()))
    if len(found.disputed) > number:
        console.print(f"  and {len(found.disputed) - number:,} more: --number {len(found.disputed)}")


@app.command("merge")
def merge(
    files: FilesArgument,
    out: OutFile,
    method: Annotated[
        Literal["dawid-skene", "majority"], typer.Option(help="Weigh annotators by how they err, or count votes.")
    ] = "dawid-skene",
    export: ExportOption = None,
) -> None:
    """Make one label out of several annotators', with the probability of each label."""
    from llmtune.annotate.labels import read_labels
    from llmtune.annotate.merge import merge as merge_labels
    from llmtune.annotate.merge import write_merged
    from llmtune.annotate.records import refuse_records
    from llmtune.words import visible

    refuse_records(out)
    console, labels = _console(), read_labels(files, export)
    result = merge_labels(labels, method)
    write_merged(out, labels, result)
    _print_labels(console, labels)
    for annotator, accuracy in result.accuracy.items():
        console.print(f"{annotator}: right in {accuracy:.1%} of labels, as far as the votes tell")
    ties = [id for id, one in result.merged.items() if one.tie]
    named = f": {visible(', '.join(ties[:5]))}{' …' if len(ties) > 5 else ''}" if ties else ""
    console.print(f"{len(result.merged):,} labels in {out}; {len(ties):,} with no single most frequent label{named}")


@app.command("errors")
def errors(file: FileArgument, out: OutFile, export: ExportOption = None, seed: SeedOption = 0) -> None:
    """Find labels that are likely wrong, most suspect first (confident learning)."""
    from llmtune.annotate.labels import read_labels
    from llmtune.annotate.records import refuse_records
    from llmtune.annotate.suspects import find_suspects, write_suspects
    from llmtune.cli.progress import TerminalMonitor
    from llmtune.words import visible

    refuse_records(out)
    console, labels = _console(), read_labels([file], export)
    with TerminalMonitor() as monitor, monitor.bar("looking for label errors"):
        suspects = find_suspects(labels, seed)
    write_suspects(out, suspects)
    _print_labels(console, labels)
    console.print(f"{len(suspects):,} of {len(labels.votes):,} labels are suspected, in {out}")
    for one in suspects[:5]:
        console.print(f"  {visible(one.id)}: {one.label}, rather {one.suggested} ({one.probability:.0%})")


@app.command("next")
def next_(
    corpus: CorpusArgument,
    labelled: FileArgument,
    out: OutFolder,
    labels: Annotated[str | None, typer.Option(help="To choose from; default: those asked for, or given.")] = None,
    number: NumberOption = 50,
    split: SplitOption = "train",
    by: Annotated[
        Literal["margin", "entropy"], typer.Option(help="How to measure what the classifier is unsure about.")
    ] = "margin",
    pool: Annotated[
        int, typer.Option(min=1, help="Of so many documents (at least --number), drawn by chance, the best are taken.")
    ] = 5000,
    format: FormatOption = "csv",
    annotators: AnnotatorsOption = 1,
    characters: CharactersOption = 8000,
    seed: SeedOption = 0,
    export: ExportOption = None,
) -> None:
    """Choose what to label next: documents that a classifier of the labels so far is unsure about."""
    from llmtune.annotate.active import choose_next
    from llmtune.annotate.export import labels_in, write_export
    from llmtune.annotate.labels import read_labels
    from llmtune.annotate.records import refuse_existing
    from llmtune.cli.progress import TerminalMonitor
    from llmtune.cli.target import find_made_corpus

    refuse_existing(out)
    asked = None if labels is None else labels_in(labels)
    console, folder, given = _console(), find_made_corpus(corpus), read_labels([labelled], export)
    with TerminalMonitor() as monitor, monitor.bar("choosing documents"):
        tasks = choose_next(
            folder, given, number=number, split=split, by=by, pool=pool, most_characters=characters, seed=seed
        )
    names = write_export(out, tasks, asked or given.names, format, annotators)
    _print_labels(console, given)
    console.print(f"{len(tasks):,} documents to label in {out}: {', '.join(names)}")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True)


def _print_labels(console: Console, labels: Labels) -> None:
    """How often each label was given, and what was passed over in reading them."""
    given = [label for votes in labels.votes.values() for label in votes.values()]
    console.print("labels: " + ", ".join(f"{name} {given.count(name):,}" for name in labels.names))
    for note in labels.notes:
        console.print(f"note: {note}")


def _or_none(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
