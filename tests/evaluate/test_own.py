"""The user's own questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtune.errors import LlmtuneError
from llmtune.evaluate.own import OwnQuestion, read_own_questions

GOOD = '{"question": "Why?", "choices": ["this", "that"], "answer": 1}'


def test_the_forms(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    line_separator = '{"question": "a\u2028b", "answer": "c"}'
    prompt = '{"prompt": "The index is", "answer": "kept"}'
    by_text = '{"question": "Q", "choices": ["x", "y"], "answer": "x"}'
    file.write_text("\ufeff" + "\r\n".join([GOOD, "", by_text, line_separator, prompt]), encoding="utf-8")
    assert read_own_questions(file) == [
        OwnQuestion("Why?", ("this", "that"), "that"),
        OwnQuestion("Q", ("x", "y"), "x"),
        OwnQuestion("a\u2028b", (), "c"),
        OwnQuestion("The index is", (), "kept", continued=True),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "not JSON"),
        ("[1]", "expected an object"),
        ('{"question": "Q"}', "`answer` is None"),
        ('{"answer": "A"}', "`question` is None"),
        ('{"question": " ", "answer": "A"}', "`question` is ' '"),
        ('{"question": "Q", "answer": ""}', "`answer` is ''"),
        ('{"question": "Q", "answer": 3}', "`answer` is 3, expected text"),
        ('{"question": "Q", "choices": ["a", "b"], "answer": 2}', "`answer` is 2"),
        ('{"question": "Q", "choices": ["a", "b"], "answer": -1}', "`answer` is -1"),
        ('{"question": "Q", "choices": ["a", "b"], "answer": true}', "`answer` is True"),
        ('{"question": "Q", "choices": ["a", "b"], "answer": "c"}', "`answer` is 'c'"),
        ('{"question": "Q", "choices": ["a", "b"]}', "`answer` is None"),
        ('{"question": "Q", "choices": ["a"], "answer": 0}', "two texts or more"),
        ('{"question": "Q", "choices": [1, 2], "answer": 0}', "two texts or more"),
        ('{"question": "Q", "choices": "ab", "answer": 0}', "two texts or more"),
        ('{"prompt": "", "answer": "a"}', "`prompt` is ''"),
        ('{"prompt": "P", "question": "Q", "answer": "a"}', "expected `question` alone"),
        ('{"prompt": "P", "choices": ["a", "b"], "answer": "a"}', "expected `question` alone"),
        ('{"question": "Q", "options": ["a", "b"], "answer": "a"}', "unknown field 'options'"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(f"{GOOD}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(LlmtuneError) as caught:
        read_own_questions(file)
    assert caught.value.where == f"{file}:3"
    assert words in caught.value.what
    assert "question" in (caught.value.fix or "")


def test_files_that_hold_no_questions(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.jsonl", tmp_path / "binary.jsonl"
    empty.write_text("\n\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for file, words in ((empty, "no question"), (binary, "cannot read"), (tmp_path / "none.jsonl", "cannot read")):
        with pytest.raises(LlmtuneError, match=words) as caught:
            read_own_questions(file)
        assert caught.value.where == str(file)
