"""`llmtune annotate`, from a corpus to merged labels and what to label next, as a person types it."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.annotate.records import write_lines
from llmtune.corpus.store import Document, write_split
from llmtune.files import write_json
from tests.annotate.documentation import docstrings

Call = Callable[..., subprocess.CompletedProcess[str]]
FAMILIES = ["network", "numbers", "files"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 docstrings of three families, each its own source, and one that begins like a formula."""
    folder = tmp_path_factory.mktemp("place") / "corpus"
    texts = [
        (f"{family}/{number}", text)
        for family in FAMILIES
        for number, text in enumerate([text for of, text in docstrings() if of == family][:60])
    ]
    documents = [
        Document(id, text, None, id.split("/")[0], None, "", id) for id, text in [*texts, ("odd/0", "=1+1 😀")]
    ]
    write_split(folder, "train", documents)
    write_json(folder / "card.json", {})
    return folder


def fill(path: Path, accuracy: float, seed: int) -> None:
    """Label a CSV file of an export as a person of this accuracy would."""
    draw = random.Random(seed)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        true = row[0].split("/")[0].replace("odd", "files")
        row[2] = true if draw.random() < accuracy else draw.choice([one for one in FAMILIES if one != true])
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)


@pytest.mark.slow
def test_the_whole_way(llmtune: Call, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("--labels", "network,numbers,files", "--number", 120, "--annotators", 3)
    done = llmtune("annotate", "export", corpus, out, *asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert "120 documents to label" in done.stdout
    files = [out / f"annotator-{number}.csv" for number in (1, 2, 3)]
    assert all(file.is_file() for file in files)
    again = llmtune("annotate", "export", corpus, out, *asked)
    assert (again.returncode, "may hold labels" in again.stderr) == (1, True)
    for file, accuracy, seed in zip(files, (0.97, 0.85, 0.7), (1, 2, 3), strict=True):
        fill(file, accuracy, seed)

    agreed = llmtune("annotate", "agreement", *files, "-n", 3)
    assert (agreed.returncode, agreed.stderr) == (0, "")
    alpha = re.search(r"Krippendorff's alpha: (0\.\d+)", agreed.stdout)
    assert alpha is not None
    assert 0.3 < float(alpha[1]) < 0.9
    assert "annotator-1 and annotator-2" in agreed.stdout
    assert "more: --number" in agreed.stdout

    merged = tmp_path / "merged.jsonl"
    done = llmtune("annotate", "merge", *files, merged)
    assert (done.returncode, done.stderr) == (0, "")
    assert "120 labels in" in done.stdout
    records = {record["id"]: record for record in map(json.loads, merged.read_text().splitlines())}
    wrong = {id for id, record in records.items() if record["label"] != id.split("/")[0].replace("odd", "files")}
    assert len(wrong) <= 12
    assert {id for id in records if records[id]["text"].startswith("'")} == set()  # guards of cells are taken off
    forgotten = llmtune("annotate", "merge", *files)
    assert (forgotten.returncode, "is there already" in forgotten.stderr) == (1, True)

    suspects = tmp_path / "suspects.csv"
    done = llmtune("annotate", "errors", files[1], suspects)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    with suspects.open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    right = [row["label"] != row["id"].split("/")[0] for row in found]
    assert sum(right) > len(right) / 2 > 2

    following = tmp_path / "next"
    done = llmtune("annotate", "next", corpus, merged, following, "--number", 10, "--format", "label-studio")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    tasks = json.loads((following / "tasks.json").read_text())
    assert len(tasks) == 10
    assert not {task["data"]["document"] for task in tasks} & set(records)
    assert set(FAMILIES) == set(json.loads((following / "asked.json").read_text())["labels"])


def test_one_clear_message(llmtune: Call, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_split(corpus, "train", [])
    write_json(corpus / "card.json", {})
    (tmp_path / "anna.csv").write_bytes("id,label\nä,x\n".encode("cp1252"))
    for arguments, message in (
        (("export", corpus, tmp_path / "out", "--labels", "spam"), "'spam' are not two or more different labels"),
        (("export", corpus, tmp_path / "out", "--labels", "a,b", "--split", "test"), "there is no 'test'"),
        (("export", corpus, tmp_path / "out", "--labels", "a,b"), "there is no document to label"),
        (("export", corpus, tmp_path / "anna.csv" / "out", "--labels", "a,b"), "anna.csv is no folder"),
        (("agreement", tmp_path / "anna.csv"), "is not UTF-8: byte 10 is 0xe4"),
        # What is wrong with OUT is said before anything else is done.
        (("errors", tmp_path / "anna.csv", tmp_path / "out.xlsx"), "ends neither in .jsonl nor in .csv"),
        (("merge", tmp_path / "anna.csv", tmp_path / "out.xlsx"), "ends neither in .jsonl nor in .csv"),
    ):
        done = llmtune("annotate", *arguments)
        assert done.returncode == 1
        assert message in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_control_character_reaches_the_terminal(llmtune: Call, tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        rows = [{"id": f"{place}\x1b[31m", "text": "one", "label": f"{name}\x1b[32m"} for place in range(2)]
        write_lines(tmp_path / f"{name}.jsonl", rows)
    files = [tmp_path / "anna.jsonl", tmp_path / "ben.jsonl"]
    for arguments in (("agreement", *files), ("merge", *files, tmp_path / "merged.csv")):
        done = llmtune("annotate", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        assert "0\\x1b[31m" in done.stdout
        assert "anna\\x1b[32m" in done.stdout
