"""Paragraphs that repeat across documents and sources: each stands once, in the first document that has it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmtune.corpus.dropped import NAME, read_dropped
from llmtune.corpus.parts import Paragraphs, Parts, paragraphs_of
from llmtune.corpus.repeated import without_repeated
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.shingles import hashed
from llmtune.corpus.text import content_hash

from .conftest import Build, random_text

paragraphs = st.lists(st.text("ab .é日\n", max_size=30), max_size=6)


@settings(deadline=None)
@given(paragraphs)
def test_a_paragraph_alone_has_the_hash_that_it_has_in_its_text(pieces: list[str]) -> None:
    """So what was found by hashes of whole texts is found again when texts are taken apart."""
    text = "\n\n".join(pieces)
    whole = paragraphs_of(hashed(text))[0].tolist()
    parts = [number for piece in text.split("\n\n") for number in paragraphs_of(hashed(piece))[0].tolist()]
    assert whole == parts
    assert without_repeated(text, frozenset(whole), 10**6) == (text, 0)


def test_what_goes_and_what_stays() -> None:
    first, second = (
        "one two three four five six seven eight nine",
        "ten eleven twelve thirteen fourteen fifteen six 7 8",
    )
    fenced = f"```\n{first}\n\n{second}\n```"
    hashes = frozenset(int(number) for text in (first, second) for number in paragraphs_of(hashed(text))[0])
    assert without_repeated(f"Title\n\n{first}\n\nmine\n\n\n{second}\n", hashes, 9) == (
        "Title\n\nmine",
        len(f"{first}{second}\n"),
    )
    assert without_repeated(f"Title\n\n{first}", hashes, 10) == (f"Title\n\n{first}", 0)
    assert without_repeated(fenced, hashes, 9) == (fenced, 0)
    open_ended = f"~~~~\n~~~\n\n{first}"
    assert without_repeated(open_ended, hashes, 9) == (open_ended, 0)
    assert without_repeated(f"{fenced}\n\n{first}", hashes, 9) == (fenced, len(first))


def test_each_paragraph_stands_once(build: Build, tmp_path: Path) -> None:
    """Two sources of sixty documents that draw from one store of paragraphs: by plain sets of their words, none is in
    two documents afterwards, none is lost, and the first document that has it keeps it."""
    rng = random.Random(1)
    store = [random_text(10, rng) for _ in range(400)]
    texts = {}
    for number in range(120):
        source = "one" if number < 60 else "two"
        chosen = [*rng.sample(store, 4), random_text(20, rng), "See also"]
        rng.shuffle(chosen)
        (tmp_path / source).mkdir(exist_ok=True)
        texts[f"{source}/{number:03d}.txt"] = chosen
        (tmp_path / source / f"{number:03d}.txt").write_text("\n\n".join(chosen))
    (tmp_path / "two" / "zzz.txt").write_text("\n\n".join(store[:40]))  # nothing that is not elsewhere, or nearly
    used = {paragraph for chosen in texts.values() for paragraph in chosen}
    built = build(
        [{"path": tmp_path / "one"}, {"path": tmp_path / "two"}],
        repeated_paragraphs=10, clean={"boilerplate": None}, min_characters=1,
    )  # fmt: skip
    owner: dict[str, str] = {}
    for id in sorted(texts):
        for paragraph in texts[id]:
            owner.setdefault(paragraph, id)
    for document in built.documents:
        assert document.text is not None
        assert document.sha256 == content_hash(document.text, None)
        expected = [
            p for p in texts.get(document.id, store[:40]) if owner.get(p, document.id) == document.id or p == "See also"
        ]
        assert document.text.split("\n\n") == expected
        gone = sum(len(p) for p in texts.get(document.id, store[:40]) if p not in expected)
        assert dict(document.changes).get("repeated_paragraphs", 0) == gone
    assert used <= {paragraph for document in built.documents for paragraph in (document.text or "").split("\n\n")}
    card = json.loads((built.folder / "card.json").read_text())
    assert card["cleaned"]["repeated_paragraphs"]["documents"] > 60
    assert card["sources"][1]["cleaned"]["repeated_paragraphs"]["documents"] > 30
    assert built.metrics["characters"] == sum(len(document.text or "") for document in built.documents)


def test_a_document_with_nothing_new_is_left_out(build: Build, tmp_path: Path) -> None:
    rng = random.Random(2)
    parts = [random_text(30, rng) for _ in range(30)]
    (tmp_path / "pages").mkdir()
    for number in range(15):
        (tmp_path / "pages" / f"{number:02d}.txt").write_text("\n\n".join(parts[2 * number : 2 * number + 2]))
    (tmp_path / "pages" / "zz.txt").write_text("\n\n".join(parts[::3]))
    built = build([{"path": tmp_path / "pages"}], repeated_paragraphs=8, clean={"boilerplate": None})
    assert "pages/zz.txt" not in {document.id for document in built.documents}
    (dropped,) = read_dropped(built.folder / NAME)
    assert (dropped.id, dropped.reason) == ("pages/zz.txt", "repeated paragraphs")
    assert built.metrics["dropped"] == {"repeated paragraphs": 1}


def test_paragraphs_of_some_documents_are_replaced() -> None:
    """By hand: documents 0 to 3 with paragraphs A, AB, BC, A; of which 1 comes to have C alone and 3 none."""
    texts = {"A": "a " * 9, "B": "b " * 9, "C": "c " * 9}
    number = {int(paragraphs_of(hashed(text))[0][0]): letter for letter, text in texts.items()}

    def collected(*documents: str) -> Paragraphs:
        parts = Parts()
        for letters in documents:
            parts.add(hashed("\n\n".join(texts[letter] for letter in letters)))
        return parts.paragraphs()

    found = collected("A", "AB", "BC", "A").replaced(np.array([1, 3]), collected("C", ""))
    owned = sorted(
        (owner, number[one]) for owner, one in zip(found.owners.tolist(), found.hashes.tolist(), strict=True)
    )
    assert owned == [(0, "A"), (1, "C"), (2, "B"), (2, "C")]
    assert found.sizes.tolist() == [17] * 4
    assert found.documents == 4


def pages(folder: Path, seed: int, count: int = 90) -> list[str]:
    """Files of four paragraphs of sixty words; the first paragraph of each."""
    rng = random.Random(seed)
    folder.mkdir()
    for number in range(count):
        paragraphs = [random_text(60, rng).replace("\n", " ") for _ in range(4)]
        (folder / f"{number:02d}.txt").write_text("\n\n".join(paragraphs))
    return [path.read_text().split("\n\n")[0] for path in sorted(folder.iterdir())]


@pytest.mark.parametrize(
    ("form", "reason"),
    [("{short}\n\n{quoted}", "exact duplicate"), ("Page {number}\n\n{short}\n\n{quoted}", "near-duplicate")],
)
def test_what_is_the_same_without_them_is_a_copy(build: Build, tmp_path: Path, form: str, reason: str) -> None:
    """Documents that share short paragraphs only, and else quote others: what is left of them is not parted by the
    split."""
    firsts = pages(tmp_path / "pages", 1)
    short = "\n\n".join(
        f"{name}: as it is on all of them" for name in ("Tool", "Version", "Author", "Platform", "Licence")
    )
    for number in range(8):
        quoted = "\n\n".join(firsts[8 * number : 8 * number + 8])
        text = form.format(number=number, short=short, quoted=quoted)
        (tmp_path / "pages" / f"z{number}.txt").write_text(text)
    source = [{"path": tmp_path / "pages"}]
    split = {"valid": 0.2, "test": 0.2}
    assert build(source, split=split).metrics["dropped"] == {}  # they are different documents
    built = build(source, split=split, repeated_paragraphs=20)
    assert set(built.metrics["dropped"]) == {reason}
    sides = [side for side, found in built.splits.items() for one in found if one.id.startswith("pages/z")]
    assert len(sides) == 8 - built.metrics["dropped"][reason] < 8
    assert len(set(sides)) == 1


def test_who_is_left_out_hands_on_what_it_had_first(build: Build, tmp_path: Path) -> None:
    """The first to have `mine` has nothing else that is new, and too little of it."""
    firsts = pages(tmp_path / "pages", 2, 20)
    mine = " ".join(f"word{number}" for number in range(25))
    (tmp_path / "pages" / "y.txt").write_text("\n\n".join([*firsts[:10], mine]))
    (tmp_path / "pages" / "z.txt").write_text("\n\n".join([random_text(200, random.Random(9)), mine]))
    built = build([{"path": tmp_path / "pages"}], repeated_paragraphs=20, min_characters=300)
    assert built.metrics["dropped"] == {"repeated paragraphs": 1}
    assert [document.id for document in built.documents if mine in (document.text or "")] == ["pages/z.txt"]


def test_code_stays(build: Build, tmp_path: Path) -> None:
    """Methods that differ in a sign alone, which the comparison of words does not see."""
    rng = random.Random(3)
    (tmp_path / "code").mkdir()
    method = "    def price(self, rows, rate, member):\n        total = 0\n" + "".join(
        f"        total += rows[{number}].price * rows[{number}].count\n" for number in range(6)
    )
    texts = {}
    for sign in "+-":
        own = method.replace("+=", f"{sign}=")
        texts[f"code/{sign}.py"] = f'"""{random_text(60, rng)}."""\n\nclass Basket:\n\n{own}\n    items = ()\n'
        texts[f"code/{sign}.md"] = f"{random_text(60, rng)}\n\n```python\nclass Basket:\n\n{own}\n    items = ()\n```\n"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    built = build([{"path": tmp_path / "code"}], repeated_paragraphs=8, clean={"boilerplate": None})
    for document in built.documents:
        assert document.text is not None
        assert texts[document.id].strip() in document.text
    assert len(built.documents) == 4


def test_it_asks_for_near_duplicates() -> None:
    sources = [{"path": "pages"}]
    with pytest.raises(ValidationError, match="needs near_duplicates"):
        CorpusSettings.model_validate({"sources": sources, "repeated_paragraphs": 20, "near_duplicates": None})
