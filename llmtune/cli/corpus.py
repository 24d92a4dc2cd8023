"""`llmtune corpus`: look into a corpus that was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from llmtune.corpus.store import Document

app = typer.Typer(
    no_args_is_help=True,
    help="Look into a corpus: what became of a document, samples, what was dropped, clusters of near-duplicates.",
    rich_markup_mode="rich",
    add_completion=False,
)
_SHOWN = 600  # characters of a document
_NAMED = 20  # copies of one

CorpusArgument = Annotated[
    Path, typer.Argument(metavar="CORPUS", help="A corpus folder, or a run whose corpus to take.", show_default=False)
]


@app.command("why")
def why(
    corpus: CorpusArgument,
    document: Annotated[
        str, typer.Argument(metavar="DOC", help="Its id (`manual/vacuum.html`), or the end of it.", show_default=False)
    ],
) -> None:
    """Say what became of a document: where it stands, or why it was dropped."""
    from rich.console import Console

    from llmtune.cli.target import find_made_corpus
    from llmtune.corpus.clean.changes import EVALUATION
    from llmtune.corpus.lookup import fate_of
    from llmtune.corpus.text import characters_of

    console = Console(highlight=False, markup=False, soft_wrap=True)
    fate = fate_of(find_made_corpus(corpus), document)
    console.print(fate.id)
    if fate.dropped is not None:
        console.print(f"  dropped: {fate.dropped.reason} ({fate.dropped.detail})")
    if fate.document is not None:
        kept = fate.document
        characters = characters_of(kept.text, kept.messages)
        console.print(f"  in the {fate.split} split, {characters:,} characters, source {kept.source}")
        console.print(f"  licence: {kept.licence or 'unknown'}; sha256: {kept.sha256}")
        if kept.changes:
            console.print(f"  cleaned: {', '.join(f'{kind} {amount:,}' for kind, amount in kept.changes)}")
        console.print(f"  group {kept.group}: {', '.join(fate.group) or 'no other document'}")
        if fate.copies:
            more = f" and {len(fate.copies) - _NAMED:,} more" if len(fate.copies) > _NAMED else ""
            console.print(f"  dropped as copies of it: {', '.join(fate.copies[:_NAMED])}{more}")
    cut = fate.document is not None and EVALUATION in dict(fate.document.changes)
    for text in fate.evaluation_texts:
        console.print(f"  held the evaluation text {text}, cut out" if cut else f"  holds the evaluation text {text}")
    if fate.document is not None:
        console.print()
        _print_text(console, fate.document)


@app.command("show")
def show(
    corpus: CorpusArgument,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    source: Annotated[str | None, typer.Option(help="Only documents of this source.")] = None,
    dropped: Annotated[str | None, typer.Option(help="Documents dropped for this reason; `all`: for any.")] = None,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="The largest groups of documents that are alike.")
    ] = False,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many to show.")] = 5,
) -> None:
    """Show documents of a corpus, what was dropped from it and why, or clusters of near-duplicates."""
    from itertools import islice

    from rich.console import Console

    from llmtune.cli.target import find_made_corpus
    from llmtune.corpus.dropped import NAME, read_dropped
    from llmtune.corpus.lookup import largest_groups, some_of
    from llmtune.corpus.store import SPLITS
    from llmtune.errors import LlmtuneError
    from llmtune.files import read_json

    console = Console(highlight=False, markup=False, soft_wrap=True)
    folder = find_made_corpus(corpus)
    card = read_json(folder / "card.json")
    if dropped is not None:
        counts: dict[str, int] = card["dropped"]
        if dropped != "all" and dropped not in counts:
            raise LlmtuneError(
                f"nothing was dropped for the reason '{dropped}'",
                where="--dropped",
                fix=f"name one of: {', '.join(counts) or 'none, nothing was dropped'}; or all",
            )
        fitting = (one for one in read_dropped(folder / NAME) if dropped in ("all", one.reason))
        for one in islice(fitting, number):
            console.print(f"{one.id}\n  {one.reason} ({one.detail})")
        console.print(f"{sum(counts.values()) if dropped == 'all' else counts[dropped]:,} in all")
        return
    if clusters:
        found = largest_groups(folder, number)
        for name, group in found:
            console.print(f"group {name}: {group.documents:,} kept, {group.copies:,} dropped as copies")
            console.print("\n".join(f"  {id}" + (f" ({why})" if why else "") for id, why in group.named))
        if not found:
            console.print("no two documents are alike")
        return
    for option, value, known in (
        ("--split", split, list(SPLITS)),
        ("--source", source, [one["name"] for one in card["sources"]]),
    ):
        if value is not None and value not in known:
            raise LlmtuneError(f"there is no '{value}'", where=option, fix=f"name one of: {', '.join(known)}")
    for document in some_of(folder, split, number, lambda one: source in (None, one.source)):
        console.print(f"── {document.id}")
        _print_text(console, document)
        console.print()


def _print_text(console: Console, document: Document) -> None:
    """The beginning of a document; of a conversation with who speaks."""
    if document.text is not None:
        text = document.text
    else:
        text = "\n\n".join(f"[{turn.role}] {turn.content}" for turn in document.messages or ())
    console.print(text[:_SHOWN] + (" …" if len(text) > _SHOWN else ""))
