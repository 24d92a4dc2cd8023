"""How well `llmtune annotate` finds label errors, merges annotators and chooses what to label next.

    python benchmarks/annotate.py [FOLDER]

FOLDER: HTML pages named `family-rest.html`, as the PostgreSQL manual's are (default: Debian's postgresql-doc-15); their
label is the family, of those with 25 pages or more. Labels are flipped, annotators drawn and labels held back by
chance, several times each; what is printed are the means. Annotators are simulated: their wrong labels are drawn
evenly, but for the share that goes to the one label which they have a habit of giving.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmtune.annotate.active import choose_next
from llmtune.annotate.classifier import classifier, features
from llmtune.annotate.labels import Labels
from llmtune.annotate.merge import dawid_skene, shares_of
from llmtune.annotate.suspects import find_suspects
from llmtune.annotate.tasks import places_of, shuffled
from llmtune.corpus.readers.html import page_of
from llmtune.corpus.store import Document, write_split

FOLDER = Path("/usr/share/doc/postgresql-doc-15/html")
SEEDS = range(5)


def main() -> None:
    """Print the three tables; exit with 1 when label errors are found worse than promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    texts, families = _pages(parser.parse_args().folder)
    print(f"{len(texts)} pages: {', '.join(f'{family} {n}' for family, n in Counter(families).most_common())}\n")
    _merging()
    recall, precision = _label_errors(texts, families)
    _active(texts, families)
    raise SystemExit(bool(recall < 0.7 or precision < 0.5))


def _pages(folder: Path) -> tuple[list[str], list[str]]:
    files = sorted(folder.glob("*-*.html"))
    sizes = Counter(file.name.split("-")[0] for file in files)
    kept = [file for file in files if sizes[file.name.split("-")[0]] >= 25]
    return [page_of(file.read_text())[0] for file in kept], [file.name.split("-")[0] for file in kept]


def _label_errors(texts: list[str], families: list[str]) -> tuple[float, float]:
    """Recall and precision at 10 % of the labels flipped."""
    print("| labels flipped | suspected | found of the flipped | flipped of the suspected | suggested the right one |")
    names = sorted(set(families))
    at_a_tenth = (0.0, 0.0)
    for share in (0.0, 0.05, 0.1, 0.2):
        rows = []
        for seed in SEEDS:
            draw = np.random.default_rng(seed)
            true: dict[str, str] = {}
            labels = Labels(names=list(names))
            for number, (text, family) in enumerate(zip(texts, families, strict=True)):
                id, label = str(number), family
                if draw.random() < share:
                    true[id] = family
                    label = str(draw.choice([one for one in names if one != family]))
                labels.votes[id], labels.texts[id] = {"somebody": label}, text
            found = find_suspects(labels, seed)
            hits = [one for one in found if one.id in true]
            suggested = sum(one.suggested == true[one.id] for one in hits)
            rows.append(
                [len(found), *(len(hits) / max(1, n) for n in (len(true), len(found))), suggested / max(1, len(hits))]
            )
        suspected, recall, precision, right = np.mean(rows, axis=0)
        print(f"| {share:.0%} | {suspected:.0f} | {recall:.2f} | {precision:.2f} | {right:.2f} |")
        if share == 0.1:
            at_a_tenth = (recall, precision)
    return at_a_tenth


def _merging() -> None:
    print("\n| annotators | habit | labels | documents | majority | Dawid-Skene, as published | with our prior |")
    equal = (0.8, 0.8, 0.8)
    for accuracies, habit in (
        (equal, 0.0),
        ((0.9, 0.8, 0.7), 0.0),
        ((0.95, 0.8, 0.65), 0.0),
        (equal, 0.5),
        (equal, 1.0),
    ):
        for labels in (2, 3) if habit == 0 else (3,):
            for items in (100, 300, 1000):
                rows = []
                for seed in range(40):
                    draw = np.random.default_rng(seed)
                    true = draw.integers(0, labels, items)
                    votes = np.stack(
                        [_said(true, one, labels, habit, who, draw) for who, one in enumerate(accuracies)], axis=1
                    )
                    counted = shares_of(votes, labels) + draw.random((items, labels)) / 100  # ties by chance
                    of_each = (counted, dawid_skene(votes, labels, prior=0), dawid_skene(votes, labels))
                    rows.append([(one.argmax(axis=1) == true).mean() for one in of_each])
                shown = " | ".join(f"{one:.3f}" for one in np.mean(rows, axis=0))
                print(
                    f"| {', '.join(f'{one:.0%}' for one in accuracies)} | {habit:.0%} | {labels} | {items} | {shown} |"
                )


def _said(
    true: NDArray[np.int64], accuracy: float, labels: int, habit: float, who: int, draw: np.random.Generator
) -> NDArray[np.int64]:
    by_habit = 1 + who % (labels - 1)
    wrong = (true + np.where(draw.random(len(true)) < habit, by_habit, draw.integers(1, labels, len(true)))) % labels
    return np.where(draw.random(len(true)) < accuracy, true, wrong)


def _active(texts: list[str], families: list[str]) -> None:
    """The accuracy on pages held back, of a classifier of the labels so far, chosen by it or by chance."""
    print("\n| labels | chosen by chance | by margin | by entropy |")
    of_texts, truth = features(texts), np.array(families)
    right: dict[tuple[int, str], list[float]] = {}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(texts))
        held, free = order[: len(order) // 3], order[len(order) // 3 :]
        with tempfile.TemporaryDirectory() as place:
            corpus = Path(place)
            write_split(corpus, "train", [Document(str(n), texts[n], None, "pages", None, "", str(n)) for n in free])
            ids = shuffled(places_of(corpus, "train"), seed)
            for how in ("chance", "margin", "entropy"):
                known = ids[:20]
                while True:
                    rows = np.array([int(id) for id in known])
                    model = classifier().fit(of_texts[rows], truth[rows])
                    accuracy = float((model.predict(of_texts[held]) == truth[held]).mean())
                    right.setdefault((len(known), how), []).append(accuracy)
                    if len(known) >= 100:
                        break
                    if how == "chance":
                        known = ids[: len(known) + 20]
                    else:
                        votes = {id: {"somebody": families[int(id)]} for id in known}
                        tasks = choose_next(
                            corpus, Labels(sorted(set(families)), votes), number=20, split="train",
                            by=how, pool=5000, most_characters=8000, seed=seed,
                        )  # fmt: skip
                        known = known + [task.id for task in tasks]
    for number in (20, 40, 60, 80, 100):
        print(
            f"| {number} | "
            + " | ".join(f"{np.mean(right[number, how]):.3f}" for how in ("chance", "margin", "entropy"))
            + " |"
        )


if __name__ == "__main__":
    main()
