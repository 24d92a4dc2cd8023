"""`llmtune corpus`: every document of a folder is found again, in a split or among what was dropped and why."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.corpus.build import build_corpus
from llmtune.corpus.dropped import NAME, read_dropped
from llmtune.corpus.lookup import fate_of
from llmtune.corpus.settings import CorpusSettings
from llmtune.errors import BadArtifact, LlmtuneError
from tests.corpus.conftest import changed, random_text

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of forty texts, a copy, a near-copy, a short and a binary one, and one with an evaluation text."""
    place, draw = tmp_path_factory.mktemp("place"), random.Random(2)
    texts = place / "texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number:02d}.txt").write_text(random_text(120, draw))
    original = (texts / "05.txt").read_text()
    (texts / "copy.txt").write_text(original)
    (texts / "near.txt").write_text(changed(original, 0.03, draw))
    (texts / "short.txt").write_text("Too short.")
    (texts / "sub").mkdir()
    (texts / "sub" / "binary.txt").write_bytes(bytes(range(256)) * 4)
    (place / "quiz.txt").write_text(" ".join((texts / "07.txt").read_text().split()[:20]))
    output = place / "corpus"
    output.mkdir()
    settings = CorpusSettings(sources=[{"path": texts}], decontaminate={"against": [place / "quiz.txt"]})
    build_corpus(settings, output, place / "work", seed=7)
    return output


def test_every_document_has_a_fate(corpus: Path) -> None:
    expected = {
        "copy.txt": ("exact duplicate", "of texts/05.txt"),
        "near.txt": ("near-duplicate", "of texts/05.txt"),
        "short.txt": ("too short", "10 characters"),
        "binary.txt": ("binary file", "control characters"),
        "07.txt": ("evaluation text", "quiz/quiz.txt"),
    }
    for name, (reason, detail) in expected.items():
        dropped = fate_of(corpus, name).dropped
        assert dropped is not None
        assert (dropped.reason, detail in dropped.detail) == (reason, True), dropped
    assert len(list(read_dropped(corpus / NAME))) == len(expected)
    for number in set(range(40)) - {7}:
        fate = fate_of(corpus, f"texts/{number:02d}.txt")
        assert fate.document is not None
        assert fate.document.id == fate.id
        assert fate.split in ("train", "valid", "test")


@pytest.mark.parametrize(
    ("wanted", "message"), [(".txt", "is the end of several ids"), ("sort.txt", "name one of: texts/short.txt")]
)
def test_names_that_mean_no_document(corpus: Path, wanted: str, message: str) -> None:
    with pytest.raises(LlmtuneError) as raised:
        fate_of(corpus, wanted)
    assert message in f"{raised.value} {raised.value.fix}"


def test_a_damaged_list_is_named(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes((corpus / NAME).read_bytes()[:-20])
    with pytest.raises(BadArtifact, match="damaged list"):
        list(read_dropped(tmp_path / NAME))


def test_on_the_command_line(llmtune: Call, corpus: Path) -> None:
    why = llmtune("corpus", "why", corpus, "near.txt")
    assert (why.returncode, why.stderr) == (0, "")
    assert "dropped: near-duplicate (of texts/05.txt, similarity 0." in why.stdout
    shown = llmtune("corpus", "show", corpus, "--dropped", "too short")
    assert shown.stdout == "texts/short.txt\n  too short (10 characters, 100 asked for)\n1 in all\n"
    wrong = llmtune("corpus", "show", corpus, "--dropped", "to short")
    assert wrong.returncode != 0
    assert "name one of: binary file, evaluation text, exact duplicate" in " ".join(wrong.stderr.split())
    assert "Traceback" not in wrong.stderr
    original = llmtune("corpus", "why", corpus, "05.txt").stdout
    assert "dropped as copies of it: texts/copy.txt, texts/near.txt\n" in original
    clusters = llmtune("corpus", "show", corpus, "--clusters").stdout.splitlines()
    assert clusters[0].endswith(": 1 kept, 2 dropped as copies")
    assert clusters[1:3] == ["  texts/05.txt", "  texts/copy.txt (exact duplicate of texts/05.txt)"]
    assert clusters[3].startswith("  texts/near.txt (near-duplicate of texts/05.txt, similarity 0.")
    assert len(clusters) == 4
    kept = llmtune("corpus", "show", corpus, "-n", "2", "--split", "train")
    assert kept.stdout.count("── texts/") == 2
