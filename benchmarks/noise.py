"""What clean-up is worth: a training on clean pages, on the same pages among noise cleaned, and not cleaned.

    apt-get install postgresql-doc-15 installation-guide-amd64
    python benchmarks/noise.py WORK [--tokens 150000] [--noise 0.3]

The pages are those of recipes/postgres-docs. Of all text, `--noise` is put beside them, a quarter of each kind:

copies      of training pages, half of them with 3 % of the words changed
navigation  the links of pages, as lines of text
languages   the installation guide in five other languages
mojibake    training pages with typographic quotes, their UTF-8 read as Windows-1252

Three runs of as many tokens follow, alike but for the corpus: the recipe's own of the pages; pages and noise with
near-duplicates dropped, the clean-up's defaults and filters for language, quality, repetition and sentences; and both
with all of that off. Pages keep the splits of the first corpus, and noise is made of its training pages alone, so all
three models are scored on one held-out text that none of them has seen. Wanted: cleaned within 2 % of clean.
"""

from __future__ import annotations

import argparse
import json
import random
import re
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
from llmtune.files import read_json

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
    """Run the three, and print their scores beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--noise", type=float, default=0.3)
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    exclude = ["bookindex.html", "legalnotice.html", "index.html"]
    pages = {"path": str(PAGES), "format": "html", "licence": "PostgreSQL", "exclude": exclude}
    clean = _run(work, "clean", {"sources": [pages], "near_duplicates": 0.8}, given.tokens)
    corpus = clean["corpus"]
    _make_noise(corpus, work / "noise", given.noise)
    both = {"sources": [pages, {"path": str(work / "noise")}], "split": {"earlier": str(work / "runs/clean")}}
    models = {"clean": clean["train"]}
    for name, settings in (("cleaned", ON), ("uncleaned", OFF)):
        models[name] = _run(work, name, both | settings, given.tokens)["train"]
    scores = {}
    for name, model in models.items():
        settings = EvaluateSettings(tokens=30_000, general=None, questions=0, knowledge=0, speed=False)
        found = evaluate_model(model, settings, corpus, work / "scoring", 1)
        scores[name] = found["domain_perplexity"]
        ratio = scores[name] / scores["clean"]
        print(f"{name:10} held-out perplexity {scores[name]:.3f}   {ratio:.3f} ×", flush=True)
    raise SystemExit(scores["cleaned"] > 1.02 * scores["clean"])


def _run(work: Path, name: str, corpus: dict[str, Any], tokens: int) -> dict[str, Path]:
    """The folders of what a run's stages made, by their ids."""
    train = {"tokens": tokens, "batch_tokens": 1024, "lr": 2e-4}
    recipe = {
        "name": name,
        "model": "smollm2-135m-instruct-q4",
        "seed": 1,
        "stages": [{"corpus": corpus}, {"train": train}],
    }
    (work / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    subprocess.run([sys.executable, "-m", "llmtune", "run", f"{name}.yaml"], cwd=work, check=True)
    found = {}
    for path in sorted((work / "runs" / name).glob("*/stage.json")):
        record = read_json(path)
        found[record["id"]] = work / "runs/.artifacts" / record["artifact"]
        if record["id"] == "corpus":
            print(
                name,
                json.dumps({key: record["metrics"][key] for key in ("documents", "characters", "dropped")}),
                flush=True,
            )
    return found


def _make_noise(corpus: Path, place: Path, share: float) -> None:
    """Files of noise, a folder a kind."""
    random_ = random.Random(5)
    trained = [_text(document) for document in read_split(corpus, "train")]
    size = sum(len(text) for split in ("train", "valid", "test") for text in map(_text, read_split(corpus, split)))
    each = size * share / (1 - share) / 4
    kinds = {
        "copies": (_copy(text, random_) for text in random_.sample(trained, len(trained))),
        "navigation": map(_links, sorted(PAGES.glob("*.html"))),
        "languages": _translated(),
        "mojibake": map(_mojibake, random_.sample(trained, len(trained))),
    }
    for kind, texts in kinds.items():
        (place / kind).mkdir(parents=True, exist_ok=True)
        made = 0
        for number, text in enumerate(texts):
            (place / kind / f"{number:04d}.txt").write_text(text, encoding="utf-8")
            made += len(text)
            if made >= each:
                break
        print(f"noise: {made:,} characters of {kind}", flush=True)


def _text(document: Any) -> str:
    return str(document.text or "")


def _copy(text: str, random_: random.Random) -> str:
    if random_.random() < 0.5:
        return text
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
