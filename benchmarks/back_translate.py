"""Back-translation by Apertium: sentences a second of our pipelines, beside one call of `apertium` a sentence and
direction; and whether everything protected came back in every text that was kept.

    python benchmarks/back_translate.py CORPUS [--sentences 5000] [--language en] [--pivot es]
    python benchmarks/back_translate.py CORPUS --whole FOLDER

CORPUS: a folder that the corpus stage made (`llmtune runs RUN` names it). --whole: back-translate all of its training
split into FOLDER, which must not exist, and check every new text against its original with expressions of its own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time
from collections import Counter
from itertools import islice
from pathlib import Path

from llmtune.augment.apertium import Apertium, mode_of
from llmtune.augment.back_translate import back_translate
from llmtune.augment.pairs import augmented_pairs
from llmtune.augment.segments import Segment, pieces_of
from llmtune.augment.settings import BackTranslateSettings
from llmtune.corpus.store import read_split
from llmtune.files import files_below, sha256_file

CALLS = 20
# What must be in a text as often as in its original, and nowhere else.
EXPRESSIONS = {
    "fenced code": re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL),
    "code spans": re.compile(r"(?<!`)(`+)(?!`)[^\n]+?(?<!`)\1(?!`)"),
    "headings": re.compile(r"^#+ .*$", re.MULTILINE),
    "table rows": re.compile(r"^\|.*$", re.MULTILINE),
    "URLs": re.compile(r"https?://[^\s)>]+"),
    "numbers": re.compile(r"\d[\d.,:]*\d|\d"),
    "identifiers": re.compile(r"\b\w*(?:_\w|[a-z][A-Z])\w*\b"),
    "capitals": re.compile(r"\b[A-Z]{2,}\b"),
    "file names and dotted names": re.compile(r"\b[a-z]\w*\.[a-z]\w+\b"),
    "options": re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*"),
}


def measure(corpus: Path, sentences: int, language: str, pivot: str) -> None:
    """Print sentences a second of both ways, and their ratio."""
    texts = (document.text for document in read_split(corpus, "train") if document.text)
    found = (piece.masked for text in texts for piece in pieces_of(text) if isinstance(piece, Segment))
    segments = list(islice(dict.fromkeys(found), sentences))
    engine = Apertium(language, pivot)
    list(engine.round_trips(segments[:10]))  # starts the pipelines
    began = time.perf_counter()
    list(engine.round_trips(segments))
    ours = len(segments) / (time.perf_counter() - began)
    engine.close()
    began = time.perf_counter()
    for segment in segments[:CALLS]:
        text = segment
        for mode in (mode_of(language, pivot), mode_of(pivot, language)):
            command = ["apertium", "-f", "none", mode]
            text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    theirs = min(CALLS, len(segments)) / (time.perf_counter() - began)
    words = sum(len(segment.split()) for segment in segments) / len(segments)
    print(f"{len(segments):,} sentences of {words:.1f} words, there and back: {ours:.0f} sentences/s")
    print(
        f"one call a sentence and direction: {theirs:.1f} sentences/s; the pipelines do {ours / theirs:.0f} x as many"
    )


def translate(corpus: Path, folder: Path, settings: BackTranslateSettings) -> None:
    """Back-translate all of the training split, and print the figures."""
    engine = Apertium(settings.language, settings.pivot)
    began = time.perf_counter()
    try:
        metrics = back_translate(corpus, settings, engine, folder / "corpus", folder / "work", seed=0)
    finally:
        engine.close()
    seconds = time.perf_counter() - began
    kept = metrics["sentences_kept"] / metrics["sentences"]
    print(f"{metrics['sentences']:,} sentences in {seconds:.0f} s ({metrics['sentences'] / seconds:.0f}/s, judged and "
          f"written); {kept:.0%} kept, dropped: {metrics['sentences_dropped']}")  # fmt: skip


def compare(corpus: Path, augmented: Path) -> None:
    """Print every difference between the new texts and their originals; SystemExit if there is any."""
    compared: Counter[str] = Counter()
    wrong = 0
    for original, new in augmented_pairs(augmented):
        assert original.text is not None
        assert new.text is not None
        compared["texts"] += 1
        assert (new.group, new.source, new.licence) == (original.group, original.source, original.licence)
        for name, expression in EXPRESSIONS.items():
            before, after = (Counter(found[0] for found in expression.finditer(text)) for text in
                             (original.text, new.text))  # fmt: skip
            compared[name] += before.total()
            if before != after:
                wrong += 1
                print(f"{new.id}: {name}: lost {before - after}, new {after - before}")
    for split in ("valid", "test"):
        copies = ([sha256_file(path) for path in files_below(place / split)] for place in (corpus, augmented))
        assert len({tuple(hashes) for hashes in copies}) == 1, f"{split} changed"
    print("compared: " + ", ".join(f"{count:,} {name}" for name, count in compared.items()) + f"; {wrong} differences")
    if wrong:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--sentences", type=int, default=5000)
    parser.add_argument("--language", default="en")
    parser.add_argument("--pivot", default="es")
    parser.add_argument("--whole", type=Path, metavar="FOLDER")
    asked = parser.parse_args()
    if asked.whole is None:
        measure(asked.corpus, asked.sentences, asked.language, asked.pivot)
    else:
        translate(asked.corpus, asked.whole, BackTranslateSettings(language=asked.language, pivot=asked.pivot))
        compare(asked.corpus, asked.whole / "corpus")


if __name__ == "__main__":
    main()
