"""A corpus made by llmtune and by datatrove from the same texts, with the same steps, two workers each, in turn.

    pip install 'datatrove[io,processing]' spacy
    python benchmarks/corpus.py                      # /usr/share/doc: install Debian's *-doc packages for 50 MB of text
    python benchmarks/corpus.py --megabytes 10 --rounds 1

Texts are read once, by our readers, and timed by themselves. Then `--copies` of them are planted again with 3 % of
their words changed, and both sides get the same JSONL:

whole      mend encodings, mask e-mail addresses, Gopher's repetition and quality rules, C4's, language (py3langid in
           both), near-duplicates, write
near       near-duplicates alone: signatures, candidates, what stays

Wanted: whole 10 × faster than datatrove, near 30 ×; planted copies found at least as often; 99 % of the pairs by which
documents are joined into groups have a true Jaccard similarity of 0.5 or more; and the peak memory of all processes,
for four times the text, 1.3 × at most.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import psutil

WORKERS = 2
FILES = 16
CHANGED = 0.03
NEAR = 0.8  # of ours; datatrove's own default is (1/14)^(1/8) = 0.72 of five-word sequences
LANGUAGE = "en"
Texts = list[tuple[str, str]]


def main() -> None:
    """Print what was read, and both sides beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("/usr/share/doc"))
    parser.add_argument("--megabytes", type=float, default=50, help="of text")
    parser.add_argument("--copies", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="leave out the run with four times the text")
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "WHAT", "TEXTS", "PLACE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        side, what, texts, place = given.one
        {"ours": ours, "theirs": theirs}[side](what, Path(texts), Path(place))
        return
    with tempfile.TemporaryDirectory() as top:
        _compare(given, Path(top))


def _compare(given: argparse.Namespace, top: Path) -> None:
    texts = _read(given.docs, given.megabytes * 1e6)
    copies = _planted(texts, given.copies)
    _write(texts + copies, top / "texts")
    size = sum(len(text) for _, text in texts + copies) / 1e6
    print(f"{len(texts):,} documents and {len(copies)} copies, {size:.1f} million characters")
    seconds: dict[tuple[str, str], list[float]] = {}
    peak = 0
    for number in range(given.rounds):
        for what in ("near", "whole"):
            for side in ("ours", "theirs"):
                place = top / f"{side}-{what}-{number}"
                took, memory = _run(side, what, top / "texts", place)
                seconds.setdefault((side, what), []).append(took)
                if (side, what) == ("ours", "whole"):
                    peak = max(peak, memory)
    for what in ("whole", "near"):
        mine, other = median(seconds["ours", what]), median(seconds["theirs", what])
        print(f"{what:6} llmtune {mine:7.1f} s   datatrove {other:7.1f} s   {other / mine:5.1f} ×")
    for side in ("ours", "theirs"):
        kept = set(json.loads((top / f"{side}-near-0" / "kept.json").read_text()))
        found = sum(not (id in kept and id.removesuffix("~") in kept) for id, _ in copies)
        print(f"planted copies found, {side}: {found / len(copies):.3f}")
    joined = json.loads((top / "ours-near-0" / "joined.json").read_text())
    by_id = dict(texts + copies)
    right = sum(_jaccard(by_id[one], by_id[other]) >= 0.5 for one, other in joined)
    print(f"joined by llmtune: {len(joined)} pairs, {right / max(1, len(joined)):.4f} of them at 0.5 or more")
    if not given.no_memory:
        _write(_four_times(texts + copies), top / "four")
        _, more = _run("ours", "whole", top / "four", top / "ours-four")
        print(f"peak memory {peak / 1e6:.0f} MB, with four times the text {more / 1e6:.0f} MB: {more / peak:.2f} ×")


def _run(side: str, what: str, texts: Path, place: Path) -> tuple[float, int]:
    """Seconds that one side took by its own clock (behind its imports), and the peak memory of its processes."""
    place.mkdir()
    command = [sys.executable, __file__, "--one", side, what, str(texts), str(place)]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        peaks = [0]
        watcher = threading.Thread(target=_watch, args=(process, peaks))
        watcher.start()
        if process.wait():
            raise SystemExit((place / "log").read_text()[-3000:])
        watcher.join()
    return float((place / "seconds").read_text()), peaks[0]


def _watch(process: subprocess.Popen[bytes], peaks: list[int]) -> None:
    """Private memory of the process and its children, every tenth of a second."""
    top = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in (top, *top.children(recursive=True)):
                total += one.memory_full_info().uss
        except psutil.Error:
            continue  # one ended meanwhile
        peaks[0] = max(peaks[0], total)
        time.sleep(0.1)


# --- the texts --------------------------------------------------------------------------------------------------------
def _read(docs: Path, most: float) -> Texts:
    from llmtune.corpus.intake import everything
    from llmtune.corpus.readers.reader import RawDocument
    from llmtune.corpus.settings import Source

    start, texts, size = time.perf_counter(), [], 0
    include = ["*.html", "*.htm", "*.txt", "*.md", "*.rst"]
    for file, raw in everything(Source(path=docs, include=include)):
        if isinstance(raw, RawDocument) and raw.text and len(raw.text) > 200:
            texts.append((f"{file.name}{raw.part}", raw.text))
            size += len(raw.text)
            if size >= most:
                break
    took = time.perf_counter() - start
    print(f"read {size / 1e6:.1f} million characters in {took:.1f} s with one process, the same for both")
    return texts


def _planted(texts: Texts, count: int) -> Texts:
    random_ = random.Random(7)
    long = [(id, text) for id, text in texts if len(text.split()) >= 100]
    copies = []
    for id, text in random_.sample(long, min(count, len(long))):
        words = text.split(" ")
        for place in random_.sample(range(len(words)), max(1, round(CHANGED * len(words)))):
            words[place] = f"x{random_.randrange(10**6)}"
        copies.append((f"{id}~", " ".join(words)))
    return copies


def _four_times(texts: Texts) -> Texts:
    """With three more of each that are not like it: the words in another order."""
    random_ = random.Random(8)
    more = list(texts)
    for number in range(3):
        for id, text in texts:
            words = text.split(" ")
            random_.shuffle(words)
            more.append((f"{number}/{id}", " ".join(words)))
    return more


def _write(texts: Texts, folder: Path) -> None:
    folder.mkdir()
    for number in range(FILES):
        lines = (json.dumps({"id": id, "text": text}) for id, text in texts[number::FILES])
        (folder / f"{number:02d}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _jaccard(one: str, other: str) -> float:
    """Of the sets of three-word sequences, exactly."""
    from llmtune.corpus.shingles import words_of

    sets = []
    for text in (one, other):
        words = words_of(text)
        sets.append(set(zip(words, words[1:], words[2:], strict=False)))
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


# --- both sides -------------------------------------------------------------------------------------------------------
def ours(what: str, texts: Path, place: Path) -> None:
    """`whole` by the settings of the corpus stage; `near` by its parts."""
    {"whole": _ours_whole, "near": _ours_near}[what](texts, place)


def _ours_whole(texts: Path, place: Path) -> None:
    from llmtune.corpus.build import build_corpus
    from llmtune.corpus.settings import CorpusSettings

    others = ("phone", "ip", "key", "private_key", "credit_card", "iban", "national_id")
    pii = {"email": "mask", **dict.fromkeys(others, "keep")}
    settings = CorpusSettings(
        sources=[{"path": texts}],
        clean={"hyphens": False, "boilerplate": None, "pii": pii},
        filters={"repetition": {}, "quality": {}, "sentences": {}, "languages": {"keep": [LANGUAGE]}},
        near_duplicates=NEAR,
        workers=WORKERS,
    )
    start = time.perf_counter()
    build_corpus(settings, place / "corpus", place / "work", 7)
    (place / "seconds").write_text(str(time.perf_counter() - start))


def _ours_near(texts: Path, place: Path) -> None:
    import numpy as np

    from llmtune.corpus.engine import NativeEngine
    from llmtune.corpus.near import clusters, copies, group_threshold
    from llmtune.monitor import Monitor

    monitor = Monitor()
    start = time.perf_counter()
    sketched = list(NativeEngine(WORKERS).map(_sketched, None, sorted(texts.iterdir()), monitor))
    ids = [id for of_file, _ in sketched for id in of_file]
    signatures = np.concatenate([found for _, found in sketched])
    found = clusters(signatures, group_threshold(NEAR), monitor)
    dropped = {copy for cluster in found for copy, _, _ in copies(signatures, cluster, NEAR, monitor)}
    kept = {id for row, id in enumerate(ids) if row not in dropped}
    for file in sorted(texts.iterdir()):
        with (place / file.name).open("w", encoding="utf-8") as left:
            left.writelines(json.dumps(line) + "\n" for line in _lines(file) if line["id"] in kept)
    (place / "seconds").write_text(str(time.perf_counter() - start))
    (place / "kept.json").write_text(json.dumps(sorted(kept)))
    joined = [
        (ids[one], ids[other])
        for cluster in found
        for one, other in combinations(cluster, 2)
        if (signatures[one] == signatures[other]).mean() >= group_threshold(NEAR)
    ]
    (place / "joined.json").write_text(json.dumps(joined))


def _sketched(_: None, file: Path, monitor: Any) -> tuple[list[str], Any]:
    """Ids and signatures of the texts in a file."""
    from llmtune.corpus.near import Sketcher
    from llmtune.corpus.shingles import hashed

    sketcher, ids = Sketcher(), []
    for line in _lines(file):
        sketcher.add(line["text"], hashed(line["text"]))
        ids.append(line["id"])
    return ids, sketcher.signatures()


def theirs(what: str, texts: Path, place: Path) -> None:
    """datatrove's pipelines, as its examples put them together."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter, LambdaFilter
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    step = 0

    def run(*pipeline: Any, tasks: int = WORKERS) -> None:
        nonlocal step
        step += 1
        logs = str(place / f"logs-{step}")
        LocalPipelineExecutor(list(pipeline), tasks=tasks, workers=WORKERS, logging_dir=logs).run()

    start = time.perf_counter()
    if what == "whole":
        run(
            JsonlReader(str(texts)), FTFYFormatter(), PIIFormatter(remove_ips=False), GopherRepetitionFilter(),
            GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False, filter_curly_bracket=False),
            LambdaFilter(_in_language), JsonlWriter(str(place / "clean"), compression=None),
        )  # fmt: skip
        texts = place / "clean"
    config = MinhashConfig()
    run(JsonlReader(str(texts)), MinhashDedupSignature(output_folder=str(place / "1"), config=config))
    run(
        MinhashDedupBuckets(input_folder=str(place / "1"), output_folder=str(place / "2"), config=config),
        tasks=config.num_buckets,
    )
    run(
        MinhashDedupCluster(input_folder=str(place / "2"), output_folder=str(place / "3"), config=config),
        tasks=1,
    )
    run(
        JsonlReader(str(texts)),
        MinhashDedupFilter(input_folder=str(place / "3")),
        JsonlWriter(str(place / "kept"), compression=None),
    )
    (place / "seconds").write_text(str(time.perf_counter() - start))
    kept = [document.id for document in JsonlReader(str(place / "kept")).run()]
    (place / "kept.json").write_text(json.dumps(kept))


def _in_language(document: Any) -> bool:
    import py3langid

    return bool(py3langid.classify(document.text[:2000])[0] == LANGUAGE)


if __name__ == "__main__":
    main()
