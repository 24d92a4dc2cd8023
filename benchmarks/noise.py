"""What clean-up is worth: a training on clean pages, on the same pages among noise cleaned, and not cleaned.

    apt-get install postgresql-doc-15 installation-guide-amd64
    python benchmarks/noise.py WORK [--tokens 150000] [--noise 0.3] [--seeds 1 2 3]

The pages are those of recipes/postgres-docs. Noise is put beside them until it is `--noise` of all text: of navigation
as much as there is, at most a quarter, and of the others alike:

navigation  the links of training pages, as lines of text
copies      of training pages, with 3 % of the words changed (exact ones no corpus keeps)
mojibake    training pages with typographic quotes, their UTF-8 read as Windows-1252
languages   the installation guide in five other languages

Three runs of as many tokens follow, alike but for the corpus: the recipe's own of the pages; pages and noise with
near-duplicates dropped, the clean-up's defaults and filters for language, quality, repetition and sentences; and both
with all of that off. Pages keep the splits of the first corpus, and noise is made of its training pages alone, so all
models are scored on one held-out text that none of them has seen. A seed gives the order of the training; of several
`--seeds` the geometric mean counts. Wanted: cleaned within 2 % of clean.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import yaml

from llmtune.corpus.intake import everything
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source
from llmtune.corpus.store import read_split
from llmtune.evaluate.scores import evaluate_model
from llmtune.evaluate.settings import EvaluateSettings
from llmtune.files import empty_folder, read_json

PAGES = Path("/usr/share/doc/postgresql-doc-15/html")
GUIDE = Path("/usr/share/doc/installation-guide-amd64")
LANGUAGES = ("de", "fr", "es", "ja", "ru")
OFF: dict[str, Any] = {
    "near_duplicates": None,
    "min_characters": 1,
    "clean": {
        "mojibake": False, "hyphens": False, "boilerplate": None,
        "pii": dict.fromkeys(
            ("email", "phone", "ip", "key", "private_key", "credit_card", "iban", "national_id"), "keep"
        ),
    },
}  # fmt: skip
ON: dict[str, Any] = {
    "near_duplicates": 0.8,
    "filters": {"languages": {"keep": ["en"]}, "quality": {}, "repetition": {}, "sentences": {}},
}


def main() -> None:
    """Run the three with each seed, and print their scores beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    exclude = ["bookindex.html", "legalnotice.html", "index.html"]
    pages = {"path": str(PAGES), "format": "html", "licence": "PostgreSQL", "exclude": exclude}
    just_pages = {"sources": [pages], "near_duplicates": 0.8}
    first = _run(work, "clean", given.seeds[0], just_pages, given.tokens)
    corpus = first["corpus"]
    _make_noise(corpus, work / "noise", given.noise)
    earlier = {"split": {"earlier": str(work / f"runs/clean-{given.seeds[0]}")}}
    both = {"sources": [pages, {"path": str(work / "noise")}]} | earlier
    corpora = {"clean": just_pages | earlier, "cleaned": both | ON, "uncleaned": both | OFF}
    settings = EvaluateSettings(tokens=30_000, general=None, questions=0, knowledge=0, speed=False)
    perplexities: dict[str, list[float]] = {name: [] for name in corpora}
    for seed in given.seeds:
        for name, of_name in corpora.items():
            made = first if (name, seed) == ("clean", given.seeds[0]) else _run(work, name, seed, of_name, given.tokens)
            found = evaluate_model(made["train"], settings, corpus, work / "scoring", 1)
            perplexities[name].append(found["domain_perplexity"])
            print(f"{name:10} seed {seed}: held-out perplexity {perplexities[name][-1]:.3f}", flush=True)
    means = {name: math.exp(statistics.fmean(map(math.log, values))) for name, values in perplexities.items()}
    for name, mean in means.items():
        print(f"{name:10} geometric mean {mean:.3f}   {mean / means['clean']:.3f} ×", flush=True)
    raise SystemExit(means["cleaned"] > 1.02 * means["clean"])


def _run(work: Path, kind: str, seed: int, corpus: dict[str, Any], tokens: int) -> dict[str, Path]:
    """The folders of what a run's stages made, by their ids."""
    train = {"tokens": tokens, "batch_tokens": 1024, "lr": 2e-4}
    name = f"{kind}-{seed}"
    recipe = {
        "name": name,
        "model": "smollm2-135m-instruct-q4",
        "seed": seed,
        "stages": [{"corpus": corpus}, {"train": train}],
    }
    (work / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    subprocess.run([sys.executable, "-m", "llmtune", "run", f"{name}.yaml"], cwd=work, check=True)
    found = {}
    for path in sorted((work / "runs" / name).glob("*/stage.json")):
        record = read_json(path)
        found[record["id"]] = work / "runs/.artifacts" / record["artifact"]
        if record["id"] == "corpus":
            told = {key: record["metrics"][key] for key in ("documents", "characters", "dropped")}
            print(name, json.dumps(told), flush=True)
    return found


def _make_noise(corpus: Path, place: Path, share: float) -> None:
    """Files of noise, a folder a kind."""
    random_ = random.Random(5)
    trained = list(read_split(corpus, "train"))
    texts = [_text(document) for document in trained]
    held_out = (len(_text(document)) for split in ("valid", "test") for document in read_split(corpus, split))
    wanted = (sum(map(len, texts)) + sum(held_out)) * share / (1 - share)
    kinds = {
        "navigation": (_links(PAGES / Path(document.id).name) for document in trained),
        "copies": (_copy(text, random_) for text in random_.sample(texts, len(texts))),
        "mojibake": (made for text in random_.sample(texts, len(texts)) if (made := _mojibake(text)) != text),
        "languages": _translated(),
    }
    for left, (kind, made) in zip(range(len(kinds), 0, -1), kinds.items(), strict=True):
        empty_folder(place / kind)
        size = 0
        for number, text in enumerate(dict.fromkeys(made)):
            (place / kind / f"{number:04d}.txt").write_text(text, encoding="utf-8")
            size += len(text)
            if size >= wanted / left:
                break
        wanted -= size
        print(f"noise: {size:,} characters of {kind}", flush=True)


def _text(document: Any) -> str:
    return str(document.text or "")


def _copy(text: str, random_: random.Random) -> str:
    words = text.split(" ")
    for at in random_.sample(range(len(words)), max(1, round(0.03 * len(words)))):
        words[at] = f"x{random_.randrange(10**6)}"
    return " ".join(words)


def _links(page: Path) -> str:
    links = re.findall(r"<a [^>]*>(.*?)</a>", page.read_text(encoding="utf-8"), re.DOTALL)
    return "\n".join(unescape(re.sub(r"<[^>]+>|\s+", " ", link)).strip() for link in links)


def _translated() -> Iterator[str]:
    """Page by page, the languages in turn."""
    of_language = [everything(Source(path=GUIDE / language, format="html")) for language in LANGUAGES]
    for together in zip(*of_language, strict=False):
        yield from (raw.text for _, raw in together if isinstance(raw, RawDocument) and raw.text)


def _mojibake(text: str) -> str:
    typographic = re.sub(r'"([^"\n]*)"', r"“\1”", text).replace("'", "’").replace(" - ", " — ")
    return typographic.encode().decode("cp1252", errors="replace")


if __name__ == "__main__":
    main()
