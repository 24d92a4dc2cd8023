"""The report: what is told, what is left out, and that no text of a document becomes markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmtune.artifacts import Artifact
from llmtune.report.collect import FinishedStage, RunStory, without_machine_paths
from llmtune.report.page import render
from llmtune.run.folder import StageRecord
from llmtune.section import Chart, Section, Table, Texts

HOSTILE = "<script>alert('x')</script> & </pre> {{ 7 * 7 }} 漢"
SCORES = {
    "base": {"domain_perplexity": 20.0, "domain_text": "t", "bytes": 200_000_000, "domain_accuracy": 0.5},
    "train": {"domain_perplexity": 10.0, "domain_text": "t", "bytes": 200_000_000, "domain_accuracy": 0.6},
    "quantize": {"domain_perplexity": 11.0, "domain_text": "t", "bytes": 50_000_000, "domain_accuracy": 0.6},
}


def finished(folder: Path, kind: str, inputs: dict[str, str] | None = None, **files: Any) -> FinishedStage:
    place = folder / kind
    place.mkdir()
    for name, value in files.items():
        text = value if isinstance(value, str) else json.dumps(value)
        (place / name.replace("__", ".")).write_text(text, encoding="utf-8")
    record = StageRecord(
        id=kind, kind=kind, artifact=kind, inputs=inputs or {}, metrics={"note": HOSTILE, "verified": True},
        planned={"memory": 1e9, "disk": 1e9, "seconds": 60}, actual={"seconds": 61, "memory": 1.1e9, "disk": 1e9},
        reused=False, halvings=0, gates=[{"sentence": HOSTILE, "ok": False}],
    )  # fmt: skip
    return FinishedStage(record, Artifact("corpus", place, kind, kind, kind, {}, {}))


@pytest.fixture
def story(tmp_path: Path) -> RunStory:
    history = "\n".join(json.dumps({"step": n, "loss": 3 - n / 10, "lr": 1e-3, "valid_loss": 3.0}) for n in range(1, 5))
    proof = {step: {"compared_with": "checkpoint", "positions": 128, "top1": 0.97, "kl": 0.002}
             for step in ("conversion", "quantization")}  # fmt: skip
    card = {"dropped": {HOSTILE: 3}, "splits": {"train": {"documents": 12_345, "characters": 99}}}
    samples = {"kept": [{"id": HOSTILE, "text": HOSTILE}], "dropped": []}
    stages = [
        finished(tmp_path, "corpus", card__json=card, samples__json=samples),
        finished(tmp_path, "train", history__jsonl=history),
        finished(tmp_path, "export", verification__json=proof),
        finished(tmp_path, "answers", {"model": "base"}, answers__json=[{"prompt": "SECRET?", "answer": HOSTILE}]),
    ]
    Section(
        HOSTILE,
        [Table(HOSTILE, ("reason", "texts"), [(HOSTILE, 12_345), ("none", None)])],
        [
            Chart("load", "heat", ["e0", "e1"], {"layer 0": [0.25, 0.75], "layer 1": [0.5, None]}),
            Chart("scores", "bars", ["a", "b"], {"score": [1.0, 3.0]}, "score"),
            Chart("tried", "points", [1, 2], {"value": [0.5, 0.25], "best": [0.5, 0.25]}, "trial", "loss"),
        ],
        [Texts("pairs", ("original", "translated"), [("SECRET original", HOSTILE)])],
    ).write(stages[1].artifact.folder)  # type: ignore[union-attr]
    environment = {"python": "3.11", "accelerators": ["one GPU"], "packages": {"torch": "2.13"}}
    return RunStory("my <run>", stages, SCORES, environment, "name: x\n# " + HOSTILE, show_samples=True)


class Tags(HTMLParser):
    """Counts elements, and the text outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "elements close in the order they were opened"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_text_of_documents_never_becomes_markup(story: RunStory) -> None:
    tags = parsed(render(story))
    assert tags.count["script"] == 2  # plotly, and ours
    text = "".join(tags.text)
    assert text.count(HOSTILE) >= 6  # gate, sample, its id, answer, metric, recipe
    assert "49" not in re.findall(r"\d+", text.replace("7 * 7", ""))


def test_the_scorecard_has_the_ratios_to_the_first_and_to_the_one_before(story: RunStory) -> None:
    page = render(story)
    rows = re.findall(r"<tr><td><b>quantize</b></td>(.*?)</tr>", page)
    assert rows
    assert '<small class="good">0.55 ×</small><small class="soft">(1.10 ×)</small>' in rows[0]
    assert "97.0 %" in page
    assert "12,345" in page
    assert "one GPU" in page


def test_samples_can_be_left_out(story: RunStory) -> None:
    page = render(RunStory(**{**story.__dict__, "show_samples": False}))
    assert "SECRET" not in page
    assert "1 samples" not in page


def test_it_needs_no_network(story: RunStory) -> None:
    ours = re.sub(r"<script>.*?</script>", "", render(story), flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=|@import|url\(", ours)


def test_no_path_of_the_machine_is_in_the_recipe() -> None:
    recipe = (
        "stages:\n- corpus:\n    sources:\n    - path: /home/me/secret/manual\n      format: html\nmodel: /data/m\n"
        "search:\n  space:\n    train.init:\n      choices:\n      - '/home/me/a b'\n      - org/name\n"
    )
    told = without_machine_paths(recipe)
    assert "/home" not in told
    assert "/data" not in told
    assert "…/manual" in told
    assert "- …/a b\n" in told
    assert "- org/name" in told


def test_a_stage_brings_its_own_part_of_the_page(story: RunStory) -> None:
    page = render(story)
    text = " ".join(parsed(page).text)
    assert "12,345" in text
    assert "SECRET original" in text
    charts = json.loads(re.search(r"const charts = (.*);", page)[1])  # type: ignore[index]
    heat, bars, points = (charts[f"train-section-{number}"]["data"][0] for number in range(3))
    assert (heat["y"], heat["z"]) == (["layer 0", "layer 1"], [[0.25, 0.75], [0.5, None]])
    assert (bars["y"], bars["x"]) == (["a", "b"], [1.0, 3.0])
    assert (points["mode"], points["y"]) == ("markers", [0.5, 0.25])
    ring = charts["train-section-2"]["data"][1]["marker"]
    assert ring["size"] > points["marker"]["size"], "both are seen where they coincide"
