"""A passage without a usable reply, and an endpoint that has none any more: what `on_error` does about the one, and
that the other ends the stage. The same command then goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtune.augment.instruct import gate
from llmtune.errors import LlmtuneError
from llmtune.files import read_json
from llmtune.monitor import Monitor
from tests.augment.instruct.conftest import answers, made
from tests.augment.instruct.server import Server, facts, number_in, pairs_about
from tests.run.conftest import CommandLine
from tests.tiny import tiny_checkpoint

Say = Callable[[str, int], tuple[int, str]]
HANGS = {"timeout": 0.4, "retries": 1}


def whole(passage: str, _: int) -> tuple[int, str]:
    return 200, pairs_about(passage) if "# Engine" in passage else "[]"


def but(number: int, odd: Callable[[], tuple[int, str]]) -> Say:
    """As it should, but for the passage of this number."""
    return lambda passage, time: odd() if f"# Engine {number}\n" in passage else whole(passage, time)


def hangs() -> tuple[int, str]:
    time.sleep(0.6)
    return 200, ""


class Notes(Monitor):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("number", "parallel"), [(0, 1), (3, 3)])
def test_skip_goes_on_without_a_passage_that_times_out(
    tmp_path: Path, server: Server, number: int, parallel: int
) -> None:
    """And names and counts it; it is asked about again where the work is gone on with."""
    server.say = but(number, hangs)
    told = Notes()
    output, metrics = made(tmp_path, server, monitor=told, parallel=parallel, **HANGS)
    assert len(answers(output)) == 7
    assert metrics["pairs_dropped"] == {gate.UNSUPPORTED: 7, gate.UNANSWERED: 1}
    assert f"skipped: 1 × {gate.UNANSWERED}, in {number}.md" in told.notes
    assert read_json(output / "card.json")["instruct"]["errors"] == {gate.UNANSWERED: [f"{number}.md"]}
    (sample,) = (one for one in read_json(output / "samples.json")["dropped"] if one["reason"] == gate.UNANSWERED)
    assert sample["id"] == f"{number}.md"
    assert "timed out (after 2 tries)" in sample["text"]
    assert gate.UNANSWERED in (output / "section.json").read_text()
    server.say = whole
    server.asked.clear()
    output, metrics = made(tmp_path, server)
    assert list(map(number_in, server.asked)) == [number]
    assert len(answers(output)) == 8
    assert metrics["pairs_dropped"] == {gate.UNSUPPORTED: 8}


ODD: dict[str, tuple[Callable[[], tuple[int, str]], str]] = {
    "hangs": (hangs, r"does not answer: timed out \(after 2 tries\)"),
    "503": (lambda: (503, ""), r"answers 503: Service Unavailable \(after 2 tries\)"),
    "400": (lambda: (400, ""), "answers 400: Bad Request"),
    "rubbish": (lambda: (200, "Sure!\nHere"), rf"{gate.RUBBISH}: Sure!\\nHere"),
    "empty": (lambda: (200, ""), f"{gate.RUBBISH}: it is empty"),
}


@pytest.mark.parametrize("kind", ODD)
def test_fail_stops_at_the_first_and_the_same_command_asks_for_what_is_missing(
    tmp_path: Path, server: Server, kind: str
) -> None:
    odd, what = ODD[kind]
    server.say = but(3, odd)
    for least in (3, 0):  # those before it, the first time
        server.asked.clear()
        with pytest.raises(LlmtuneError, match=what) as told:
            made(tmp_path, server, on_error="fail", parallel=1, **HANGS)
        assert told.value.where == "3.md, Engine 3 / Pages"
        assert "`on_error: skip`" in str(told.value.fix)
        assert set(map(number_in, server.asked)) == {*range(least), 3}
    server.say = whole
    server.asked.clear()
    output, metrics = made(tmp_path, server, on_error="fail")
    assert sorted(map(number_in, server.asked)) == [3, 4, 5, 6, 7]
    assert len(answers(output)) == 8
    assert metrics["pairs_dropped"] == {gate.UNSUPPORTED: 8}


@pytest.mark.parametrize("kind", ["400", "rubbish"])
def test_fail_asks_again_what_skip_went_on_without(tmp_path: Path, server: Server, kind: str) -> None:
    server.say = but(3, ODD[kind][0])
    made(tmp_path, server)
    server.asked.clear()
    made(tmp_path, server, timeout=7)
    assert server.asked == []
    with pytest.raises(LlmtuneError, match=ODD[kind][1]):
        made(tmp_path, server, on_error="fail")
    assert list(map(number_in, server.asked)) == [3]


DEAD: dict[str, tuple[Any, str]] = {
    "hangs": (hangs, r"does not answer: timed out \(after 2 tries\)"),
    "503": (lambda: (503, ""), r"answers 503: Service Unavailable \(after 2 tries\)"),
    "422": (lambda: (422, ""), "answers 422: Unprocessable .*, even to a passage that nobody could refuse"),
    "no-choice": (lambda: (200, '{"choices": []}'), "a completion without a word, and does not say why .*, even to"),
}


@pytest.mark.parametrize("kind", DEAD)
@pytest.mark.parametrize("documents", [6, 40])
def test_an_endpoint_that_dies_midway_ends_the_stage(tmp_path: Path, server: Server, kind: str, documents: int) -> None:
    """Whatever it gives then, and however few passages are left: none of them is skipped, none counts as refused."""
    odd, what = DEAD[kind]
    server.bare = server.of_all = True

    def say(passage: str, time: int) -> tuple[int, str]:
        if len(server.asked) > 4:
            status, text = odd()
            return status, text
        return 200, json.dumps({"choices": [{"message": {"content": whole(passage, time)[1]}}]})

    server.say = say
    with pytest.raises(LlmtuneError, match=what) as told:
        made(tmp_path, server, documents=documents, parallel=1, **HANGS)
    assert server.url in str(told.value)
    assert len(server.asked) <= 4 + 2 * 21
    server.bare = False
    server.say = whole
    server.asked.clear()
    output, metrics = made(tmp_path, server)
    assert len(answers(output)) == documents
    assert metrics["pairs_dropped"] == {gate.UNSUPPORTED: documents}
    assert len(server.asked) == documents + 2 - 4


def test_a_reply_to_what_was_sent_before_settles_nothing(tmp_path: Path, server: Server) -> None:
    """It was under way while the endpoint began to refuse all."""

    def say(passage: str, asked: int) -> tuple[int, str]:
        if "# Engine 0\n" not in passage:
            return 400, ""
        time.sleep(1)
        return whole(passage, asked)

    server.say, server.of_all = say, True
    with pytest.raises(LlmtuneError, match="answers 400: Bad Request, even to a passage that nobody could refuse"):
        made(tmp_path, server, documents=8, parallel=2)
    server.say, server.of_all = whole, False
    output, metrics = made(tmp_path, server)
    assert len(answers(output)) == 8
    assert gate.REFUSED not in metrics["pairs_dropped"]


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path) -> None:
    """`fail` ends the run, and who turns to `skip` goes on with what was answered."""
    server = Server()
    server.say = but(3, lambda: (400, ""))
    line = CommandLine(tmp_path, tiny_checkpoint(tmp_path / "model"))
    line.environment |= {"no_proxy": "*"}
    (tmp_path / "docs").mkdir()
    for number in range(12):
        (tmp_path / "docs" / f"{number}.md").write_text(facts(number))
    stages = """
corpus: {{sources: [{{path: docs}}], near_duplicates: null}}
instruct: {{rules: [], generate: {{url: "{url}", model: m, parallel: 1, on_error: {on_error}}}}}
"""
    line.recipe(stages.format(url=server.url, on_error="fail"))
    ended = line.run("run", "toy.yaml")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "docs/3.md, Engine 3 / Pages: the endpoint answers 400: Bad Request" in ended.stdout + ended.stderr
    before = list(server.asked)
    line.recipe(stages.format(url=server.url, on_error="skip"))
    done = line.run("run", "toy.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    server.close()
    assert f"skipped: 1 × {gate.REFUSED}, in docs/3.md" in done.stdout, done.stdout
    assert sorted(set(map(number_in, server.asked))) == list(range(12))
    assert len(server.asked) == 12 + 1
    assert {passage for passage in before if server.asked.count(passage) > 1} == {before[-1]}
