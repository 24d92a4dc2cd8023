"""What each kind of trouble with an endpoint costs, and how it is told."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from llmtune.augment.instruct import gate
from llmtune.augment.instruct.endpoint import Endpoint
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.errors import LlmtuneError
from llmtune.files import content_fingerprint, fingerprint
from tests.augment.instruct.conftest import answers, made, settings_of
from tests.augment.instruct.server import KEY, Server, facts, number_in, pairs_about


def test_what_fails_for_a_while_is_asked_again(tmp_path: Path, server: Server) -> None:
    server.say = lambda passage, time: (503 if time < 3 else 200, pairs_about(passage))
    output, _ = made(tmp_path, server, retries=2)
    assert len(answers(output)) == 8
    assert len(server.asked) == 24


NONE_AT_ALL = {  # replies with status 200 that are no chat completion, and how a message shows them
    "page": (
        "<html>\n<body>Log in, [red]\x1b[31m please</body></html>",
        r"<html>\n<body>Log in, [red]\x1b[31m please</",
    ),
    "list": ("[1, 2]", "[1, 2]"),
    "brackets": ("[" * 20_000, ": " + "[" * 100 + " (after"),
    "no-choice": ('{"choices": [], "error": "no such model"}', '{"choices": [], "error": "no such model"}'),
    "other": ('{"choices": {}, "detail": "x"}', '{"choices": {}, "detail": "x"}'),
    "parts": ('{"choices": [{"message": {"content": [1]}}]}', '{"content": [1]}'),
    "key": (f'{{"error": "of key {KEY}"}}', '{"error": "of key [key]"}'),
    "empty": ("", ": nothing (after"),
}


@pytest.mark.parametrize("kind", NONE_AT_ALL)
def test_what_is_no_completion_is_tried_again_told_and_not_kept(tmp_path: Path, server: Server, kind: str) -> None:
    reply, shown = NONE_AT_ALL[kind]
    server.bare = server.of_all = True
    server.say = lambda *_: (200, reply)
    with pytest.raises(LlmtuneError, match=re.escape(shown)) as told:
        made(tmp_path, server, documents=2, retries=1, parallel=1)
    assert told.value.what.startswith("the endpoint gives no chat completion: ")
    assert told.value.what.endswith(" (after 2 tries)")
    assert told.value.what.isprintable()
    assert "`url`" in str(told.value.fix)
    assert KEY not in str(told.value)
    assert len(server.asked) == 2 * 2  # a passage, and one that nobody could refuse
    server.bare = server.of_all = False
    server.say = lambda passage, _: (200, pairs_about(passage))
    output, _ = made(tmp_path, server)  # going on, when it is healthy again
    assert len(answers(output)) == 2


def test_a_reply_that_breaks_off_is_a_lost_connection(tmp_path: Path, server: Server) -> None:
    """However much of it is there: what breaks off here is a completion by itself."""
    server.promised = 5_000
    with pytest.raises(LlmtuneError, match=r"the endpoint breaks its reply off after \d+ bytes \(after 2 tries\)"):
        made(tmp_path, server, documents=2, retries=1, parallel=1)
    server.promised = 0
    server.asked.clear()
    output, _ = made(tmp_path, server)
    assert len(answers(output)) == len(server.asked) == 2


def test_what_a_completion_says(tmp_path: Path, server: Server) -> None:
    """In parts, or nothing: those that say nothing are replies, and not asked for again."""
    parts = [{"type": "thinking", "thinking": "?"}, *({"type": "text", "text": half} for half in ("[", "]"))]
    odd = [
        {"message": {"content": ""}},
        {"message": {"content": None, "refusal": "I do not speak of engines."}},
        {"message": {"content": None}, "finish_reason": "length"},
        {"message": {"content": None, "reasoning_content": "Engines …"}, "finish_reason": "stop"},
        {"message": {"content": parts}},
    ]
    whole = {"message": {"content": [{"type": "text", "text": pairs_about(facts(5))}]}}
    server.bare = server.of_all = True

    def say(passage: str, _: int) -> tuple[int, str]:
        choice = [*odd, whole][min(number_in(passage), 5)] if "# Engine" in passage else odd[-1]
        return 200, json.dumps({"choices": [choice]})

    server.say = say
    output, metrics = made(tmp_path, server, documents=6)
    assert answers(output) == ["The buffer pool of storage engine 5 holds 105 pages."]
    assert metrics["pairs_dropped"] == {gate.UNSUPPORTED: 1, gate.RUBBISH: 4}  # "[]" has nothing to ask
    assert b"I do not speak of engines." in (output / "samples.json").read_bytes()
    asked = len(server.asked)
    assert made(tmp_path, server, min_support=0.7)[1] == metrics
    assert len(server.asked) == asked


def test_a_completion_without_a_word_costs_its_passage_alone(tmp_path: Path, server: Server) -> None:
    """Nothing says why; asked again it comes back, as the request is the same. Gateways have no choice to offer where
    the model's keepers block a passage."""
    nothing: list[Any] = [
        {"message": {"role": "assistant", "content": None}}, {"message": {}, "finish_reason": "stop"},
        {"finish_reason": "tool_calls"}, [], None,
    ]  # fmt: skip
    server.bare = server.of_all = True

    def say(passage: str, _: int) -> tuple[int, str]:
        about = "# Engine" in passage
        whole = {"message": {"content": pairs_about(passage) if about else "[]"}}
        choice = [*nothing, whole][min(number_in(passage), 5) if about else 5]
        return 200, json.dumps({"choices": [choice] if isinstance(choice, dict) else choice})

    server.say = say
    output, metrics = made(tmp_path, server, documents=7, retries=1)
    assert len(answers(output)) == 2
    assert metrics["pairs_dropped"][gate.REFUSED] == 5
    assert sum("# Engine" in passage for passage in server.asked) == 2 * 5 + 2


def test_a_stop_decides_nothing_about_a_passage_that_waits_for_its_next_try(server: Server) -> None:
    server.bare = server.of_all = True
    server.say = lambda *_: (200, json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}))
    settings = settings_of(server).generate
    assert settings is not None
    asking = Endpoint(settings)
    asking.stop()
    with pytest.raises(LlmtuneError, match="was not asked again"):
        asking.ask("system", "user", 1)
    assert len(server.asked) == 1


def test_what_was_kept_before_doubts_were_is_asked_for_again(tmp_path: Path, server: Server) -> None:
    """Empty replies of a time when those could be none, and refusals of one when an endpoint could refuse all."""
    odd = {0: (200, ""), 1: (400, "")}
    server.say = lambda passage, _: odd.get(number_in(passage), (200, pairs_about(passage)))
    output, _ = made(tmp_path, server, documents=4)
    assert len(answers(output)) == 2
    with sqlite3.connect(tmp_path / "work" / "replies.sqlite") as base:
        base.execute("PRAGMA user_version = 0")
    base.close()
    (sheets,) = (path for path in (tmp_path / "work").iterdir() if path.is_dir())
    settings = settings_of(server).model_dump(mode="json", include=set(InstructSettings.model_fields))
    sheets.rename(sheets.with_name(fingerprint([settings, content_fingerprint([tmp_path / "corpus"])])))  # as then
    server.asked.clear()
    server.say = lambda passage, _: (200, pairs_about(passage))
    output, _ = made(tmp_path, server, documents=4)
    assert sorted(map(number_in, server.asked)) == [0, 1]
    assert len(answers(output)) == 4


@pytest.mark.parametrize(
    ("status", "changes", "what", "fix"),
    [
        (401, {}, "the endpoint answers 401: Unauthorized", "check the key in OUR_KEY (`key_variable`)"),
        (403, {"key_variable": None}, "the endpoint answers 403: Forbidden", "holds its key: `key_variable`"),
        (404, {}, "the endpoint answers 404: Not Found", "check `url` and `model`"),
        (500, {"retries": 0}, "the endpoint answers 500: Internal Server Error (after 1 try)", "the same command"),
        (529, {"retries": 1}, "the endpoint answers 529 (after 2 tries)", "the same command"),
        (429, {"retries": 1}, "the endpoint answers 429: Too Many Requests (after 2 tries)", "the same command"),
    ],
)
def test_a_status_is_told(
    tmp_path: Path, server: Server, status: int, changes: dict[str, Any], what: str, fix: str
) -> None:
    server.of_all = True
    server.say = lambda *_: (status, "")
    with pytest.raises(LlmtuneError) as told:
        made(tmp_path, server, documents=1, **changes)
    assert told.value.what == what
    assert fix in str(told.value.fix)


def test_an_endpoint_that_is_down_is_one_clear_message(tmp_path: Path, server: Server) -> None:
    server.close()
    with pytest.raises(LlmtuneError, match=r"does not answer: .*refused.*3 tries") as told:
        made(tmp_path, server, retries=2)
    assert server.url in str(told.value)


def test_one_that_hangs_is_given_up(tmp_path: Path, server: Server) -> None:
    """Also where it replies to what nobody could refuse, as one does that is too slow for several at a time."""
    ended = threading.Event()
    server.say = lambda passage, _: (200, str(ended.wait(5)))
    with pytest.raises(LlmtuneError, match=r"timed out \(after 2 tries\), 8 passages in a row"):
        made(tmp_path, server, documents=60, parallel=4, retries=1, timeout=0.2)
    ended.set()
    assert len(set(server.asked)) == 8


def test_one_that_refuses_all_is_told(tmp_path: Path, server: Server) -> None:
    server.of_all = True
    server.say = lambda passage, _: (422, "")
    for _ in range(2):
        with pytest.raises(LlmtuneError, match=r"422: .*, even to a passage that nobody could refuse"):
            made(tmp_path, server)
    assert len(server.asked) == 2 * len(set(server.asked))  # none is remembered as refused


def test_one_that_refuses_all_is_not_asked_about_all(tmp_path: Path, server: Server) -> None:
    server.of_all = True
    server.say = lambda *_: (422, "")
    with pytest.raises(LlmtuneError, match=r"422: .*, even to a passage that nobody could refuse"):
        made(tmp_path, server, documents=60)
    assert 20 <= len(server.asked) < 30
    server.say = lambda passage, _: (
        (200, pairs_about(passage))
        if "# Engine 59\n" in passage
        else (200, "[]")
        if "opens at nine in the morning" in passage
        else (422, "")
    )
    output, metrics = made(tmp_path, server, documents=60)  # it is those passages that it refuses
    assert len(answers(output)) == 1
    assert metrics["pairs_dropped"][gate.REFUSED] >= 59


@pytest.mark.parametrize("documents", [10, 60])
def test_one_that_refuses_these_passages_is_known_for_it(tmp_path: Path, server: Server, documents: int) -> None:
    """As a gateway that blocks what they are about; started again in the same work folder it is asked nothing."""
    server.of_all = True
    server.say = lambda passage, _: (200, "[]") if "opens at nine in the morning" in passage else (422, "")
    for _ in range(2):
        with pytest.raises(LlmtuneError, match=f"no pair could be made.*{gate.REFUSED}"):
            made(tmp_path, server, documents=documents)
    passages = [passage for passage in server.asked if "opens at nine in the morning" not in passage]
    assert len(passages) == len(set(passages)) == documents + 2


def test_the_key_goes_nowhere_else(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a redirection, and not into a message about it."""
    other = Server()
    server.location = other.url
    server.say = lambda passage, _: (302, "")
    with pytest.raises(LlmtuneError, match="302"):
        made(tmp_path, server)
    assert not other.paths
    other.close()
    monkeypatch.setenv("OUR_KEY", f"{KEY}\nX: y")
    with pytest.raises(LlmtuneError, match="holds no key") as told:
        made(tmp_path, server)
    assert KEY not in str(told.value)


def test_a_key_that_is_not_there_is_told_before_anything_is_sent(tmp_path: Path, server: Server) -> None:
    with pytest.raises(LlmtuneError, match="OTHER_KEY is not set"):
        made(tmp_path, server, key_variable="OTHER_KEY")
    assert server.asked == []
