"""Pairs that a model writes, a server of our own in its place: what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmtune.augment.instruct import gate
from llmtune.augment.instruct.outline import sections_of
from llmtune.augment.instruct.passages import passages_of
from llmtune.augment.instruct.support import names_and_numbers, support, unsupported
from llmtune.errors import LlmtuneError
from llmtune.files import files_below, sha256_file
from tests.augment.instruct.conftest import answers, made
from tests.augment.instruct.server import FACTS, KEY, Server, facts, number_in, pairs_about


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in files_below(folder)}


def test_what_the_passage_supports_is_kept(tmp_path: Path, server: Server) -> None:
    output, metrics = made(tmp_path, server)
    assert answers(output) == [f"The buffer pool of storage engine {n} holds {100 + n} pages." for n in range(8)]
    assert metrics["pairs_by_rule"] == {"generated": 8}
    assert metrics["pairs_dropped"] == {gate.UNSUPPORTED: 8}
    assert server.keys == {f"Bearer {KEY}"}
    assert len(server.asked) == len(set(server.asked)) == 8
    everything = b"".join(path.read_bytes() for path in files_below(tmp_path))
    assert KEY.encode() not in everything


def test_rubbish_and_refusals_are_counted_and_nothing_else_is_lost(tmp_path: Path, server: Server) -> None:
    speaking = {
        "question": "What does the passage say?",
        "answer": "The oldest page that nobody reads is written back.",
    }
    odd = {
        0: (200, "Sure! Here you go."),
        1: (200, '[{"question": "Why?"}]'),
        2: (400, ""),
        3: (200, "[1, 2"),
        4: (200, "```json\n" + pairs_about(facts(4)) + "\n```"),
        5: (200, json.dumps([speaking])),
        6: (200, "[]"),
    }
    server.say = lambda passage, _: odd.get(number_in(passage), (200, pairs_about(passage)))
    output, metrics = made(tmp_path, server)
    assert len(answers(output)) == 2
    dropped = metrics["pairs_dropped"]
    assert (dropped[gate.RUBBISH], dropped[gate.REFUSED], dropped[gate.OF_PASSAGE]) == (3, 1, 1)


def test_what_is_no_utf8_costs_nothing_but_itself(tmp_path: Path, server: Server) -> None:
    """Half a surrogate pair, as models cut emoji: in the reply, and escaped in the JSON in it."""
    speaking = {"question": "What does engine 1 \ud83d hold?", "answer": "It holds the 101 pages of engine 1 \ud83d."}
    odd = {0: pairs_about(facts(0)) + " \ud83d", 1: json.dumps([speaking])}
    server.say = lambda passage, _: (200, odd.get(number_in(passage), pairs_about(passage)))
    output, metrics = made(tmp_path, server, min_support=0)
    assert len(answers(output)) == 7
    assert metrics["pairs_dropped"] == {gate.UNSUPPORTED: 8}
    asked = len(server.asked)
    assert made(tmp_path, server, min_support=0.1)[1] == metrics  # going on, from the replies that are kept
    assert len(server.asked) == asked


def test_brackets_without_end_are_rubbish(tmp_path: Path, server: Server) -> None:
    server.of_all = True
    server.say = lambda passage, _: (200, '[{"a":' * 20_000 + "]")
    with pytest.raises(LlmtuneError, match=f"[0-9]+ × {gate.RUBBISH}"):
        made(tmp_path, server)


def test_pairs_that_are_there_already_are_told_before_anything_is_sent(tmp_path: Path, server: Server) -> None:
    output, _ = made(tmp_path / "first", server)
    server.asked.clear()
    (tmp_path / "second").mkdir()
    output.rename(tmp_path / "second" / "corpus")
    with pytest.raises(LlmtuneError, match="holds pairs made from its documents already"):
        made(tmp_path / "second", server, model="other")
    assert server.asked == []


def test_a_job_that_was_ended_asks_nothing_twice_and_ends_in_the_same_bytes(tmp_path: Path, server: Server) -> None:
    whole, _ = made(tmp_path / "whole", server)
    server.asked.clear()
    given = 0

    def say(passage: str, _: int) -> tuple[int, str]:
        nonlocal given
        given += 1
        return (200, pairs_about(passage)) if given <= 3 else (401, "")

    server.say = say
    with pytest.raises(LlmtuneError, match="401") as told:
        made(tmp_path / "ended", server, parallel=1)
    assert KEY not in str(told.value)
    first = server.asked[:3]
    server.asked.clear()
    server.say = lambda passage, _: (200, pairs_about(passage))
    output, _ = made(tmp_path / "ended", server)
    assert not set(first) & set(server.asked)
    assert len(server.asked) == 5
    assert hashes(output) == hashes(whole)


PASSAGE = "`work_mem` sets the memory of a sort. The default is 4 MB. In PostgreSQL it can be changed with SET."


@pytest.mark.parametrize(
    ("answer", "missing", "least", "most"),
    [
        ("The setting `work_mem` sets the memory of a sort, by default 4 MB.", set(), 0.8, 1),
        ("Sorting memory is set by work_mem.", set(), 0.6, 1),
        ("The default is 64 MB.", {"64"}, 0, 1),
        ("It is changed by `maintenance_work_mem`.", {"maintenance_work_mem"}, 0, 1),
        ("The default is 4 MB in MySQL.", {"mysql"}, 0, 1),
        ("Oracle has another default.", set(), 0, 0.5),
        ("It is set by Work or by the DEFAULTS.", {"work", "defaults"}, 0, 1),  # within other words of the passage
        ("Sorts of POSTGRESQL, with no Ann, in SQL.", {"ann", "sql"}, 0, 1),
        ("Elephants gather around muddy rivers every summer evening.", set(), 0, 0.1),
    ],
)
def test_the_measure_of_support(answer: str, missing: set[str], least: float, most: float) -> None:
    assert unsupported(answer, PASSAGE) == missing
    assert least <= support(answer, PASSAGE) <= most


def test_a_name_among_words_without_spaces() -> None:
    """And one in the plural."""
    assert unsupported("速いのは work_memとSQLです。", "work_memはSQLの設定です。") == set()
    assert unsupported("速いのは MySQLです。", "work_memはSQLの設定です。") == {"mysql"}
    assert unsupported("There is an API for it.", "All APIs are here.") == set()


def test_names_and_numbers() -> None:
    text = "Set `max_wal_size` to 1.5 GB. Then run pg_ctl with --mode=fast in Linux. The end."
    assert names_and_numbers(text) == {"max_wal_size", "1.5", "gb", "pg_ctl", "--mode", "linux"}


def test_passages_are_whole_blocks_below_their_headings_spread_over_the_document() -> None:
    text = "# T\n\n" + "\n\n".join(f"## S{number}\n\n{FACTS.format(number, number)}" for number in range(8))
    found = passages_of(sections_of(text), 4)
    assert [passage.split("\n")[1] for passage in found] == ["## S0", "## S2", "## S4", "## S6"]
    assert found[1] == f"# T\n## S2\n\n{FACTS.format(2, 2)}"
    assert passages_of(sections_of("# T\n\nToo short."), 4) == []
