"""Every setting of a recipe's `report` block is read: what the report of a real run shows with it, and without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmtune.recipe.recipe import ReportSettings
from llmtune.report.collect import RunStory, collect
from llmtune.report.page import render
from tests.run.conftest import CommandLine
from tests.stages.fields import paths_of
from tests.tiny import TEXT, tiny_checkpoint

PROMPTS = ["What does the planner keep?", "Why is writing slower?"]


def test_the_table_is_complete() -> None:
    assert paths_of(ReportSettings) == {"samples", "prompts"}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A recipe whose report has everything to show, run to its end."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "texts").mkdir()
    for number in range(8):
        text = " ".join(TEXT[(number + step) % len(TEXT)] for step in range(3)) + f" number {number}"
        (folder / "texts" / f"{number}.txt").write_text(text)
    line = CommandLine(folder, tiny_checkpoint(folder / "model"))
    line.recipe(
        "corpus: {sources: [{path: texts}], min_characters: 20, near_duplicates: null}",
        head=f"report: {{prompts: {PROMPTS}}}",
    )
    return line


def story_of(line: CommandLine, *overrides: str) -> tuple[RunStory, str]:
    """The run's story and page; what is made already is taken from the store."""
    done = line.run("run", "toy.yaml", *overrides, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(line.folder / "runs" / "toy")
    story, page = collect(folder), (folder / "report.html").read_text(encoding="utf-8")
    assert page == render(story)
    return story, re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL).partition("<h2>Recipe")[0]


@pytest.mark.slow
def test_settings_are_read(line: CommandLine) -> None:
    story, page = story_of(line)
    (answers,) = (stage.read("answers.json") for stage in story.of_kind("answers"))
    assert [answer["prompt"] for answer in answers] == PROMPTS
    assert all(f"<h3>{prompt}</h3>" in page for prompt in PROMPTS)
    assert "kept: 8 samples" in page
    assert TEXT[0] in page

    story, page = story_of(line, "report.samples=false")
    assert len(story.of_kind("answers")) == 1
    assert "Side by side" not in page
    assert "kept: 8 samples" not in page
    assert TEXT[0] not in page

    story, page = story_of(line, "report.prompts=[]")
    assert not story.of_kind("answers")
    assert "Side by side" not in page
    assert "kept: 8 samples" in page
