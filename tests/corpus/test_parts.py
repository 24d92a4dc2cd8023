"""Documents that hold a part of another belong together, however much longer one of them is."""

from __future__ import annotations

import random
from pathlib import Path

from llmtune.corpus.near import Sketcher, clusters
from llmtune.corpus.parts import Parts
from llmtune.corpus.shingles import hashed
from llmtune.monitor import Monitor
from tests.corpus.conftest import Build, random_text


def related(*documents: str) -> list[tuple[int, int]]:
    parts = Parts()
    for document in documents:
        parts.add(hashed(document))
    return list(parts.paragraphs().related())


def paragraphs(count: int, seed: int) -> list[str]:
    random_ = random.Random(seed)
    return [random_text(40, random_) for _ in range(count)]


def test_a_chapter_and_its_book_are_related_and_signatures_do_not_see_it() -> None:
    book, other = paragraphs(40, 1), paragraphs(40, 2)
    chapter = "\n\n".join(["A chapter", *(p.replace("\n", "  ").upper() for p in book[10:13])])
    documents = ["\n\n".join(book), chapter, "\n\n".join(other)]
    assert related(*documents) == [(0, 1)]
    sketcher = Sketcher()
    for document in documents:
        sketcher.add(document, hashed(document))
    assert clusters(sketcher.signatures(), 0.65, Monitor()) == []
    assert clusters(sketcher.signatures(), 0.65, Monitor(), [(0, 1)]) == [[0, 1]]


def test_a_chapter_in_a_script_without_spaces_is_related_to_its_book() -> None:
    chapter = [
        "规划器估计每条路径的成本，并保留成本最低的那一条路径。",
        "索引使读取更快，但每次插入、更新或删除行时都必须更改。",
    ]
    rest = [f"第{n}段：事务是一组要么全部生效，要么全部不生效的操作，编号为{n}。" for n in range(8)]
    assert related("\n\n".join(chapter), "\n\n".join([*rest, *chapter])) == [(0, 1)]
    assert related("参见下一页的说明\n\n一二三", "参见下一页的说明\n\n四五六") == []  # phrases of a few characters


def test_a_quarter_of_the_shorter_one_counts_and_less_does_not() -> None:
    mine, theirs = paragraphs(9, 3), paragraphs(20, 4)
    fifth = "\n\n".join([*mine[:8], theirs[0], theirs[1]])
    half = "\n\n".join([*mine[:4], *theirs[:4]])
    whole = "\n\n".join(theirs)
    assert related(whole, fifth) == []
    assert related(whole, half) == [(0, 1)]


def test_phrases_and_boilerplate_relate_nothing() -> None:
    notice = paragraphs(1, 5)[0]
    many = ["\n\n".join([notice, "See also the next page.", *paragraphs(1, 100 + n)]) for n in range(30)]
    assert related(*many) == []
    assert related(*many[:2]) == [(0, 1)]  # in two documents alone the same notice is a part they share
    assert related("See also:\n\nOne two three.", "See also:\n\nOne two three.") == []


def test_no_part_of_a_document_stands_on_the_other_side(tmp_path: Path, build: Build) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    books = [paragraphs(12, seed) for seed in range(30)]
    for number, book in enumerate(books):
        (texts / f"book{number}.txt").write_text("\n\n".join(book))
        (texts / f"chapter{number}.txt").write_text("\n\n".join(book[4:6]))
    built = build([{"path": texts}])
    side = {document.id.split("/")[-1]: split for split, found in built.splits.items() for document in found}
    assert set(side.values()) == {"train", "valid", "test"}
    assert len(side) == 60
    for number in range(30):
        assert side[f"book{number}.txt"] == side[f"chapter{number}.txt"]
