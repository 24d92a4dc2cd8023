"""Encodings: those named, marked, declared and detected, against Python's own codecs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.decode import decode, open_text, read_text
from llmtune.corpus.readers.detect import detected, meaning_of
from llmtune.corpus.readers.reader import RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source
from llmtune.errors import MissingExtra

# The first article of the Universal Declaration of Human Rights, and a sentence of the second.
TEXTS = {
    "German": (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen "
        "begabt und sollen einander im Geiste der Brüderlichkeit begegnen. Jeder hat Anspruch auf alle in dieser "
        "Erklärung verkündeten Rechte und Freiheiten, ohne irgendeinen Unterschied, etwa nach Rasse, Hautfarbe, "
        "Überzeugung."
    ),
    "French": (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
        "conscience et doivent agir les uns envers les autres dans un esprit de fraternité. Chacun peut se "
        "prévaloir de tous les droits et de toutes les libertés proclamés dans la présente Déclaration, sans "
        "distinction aucune."
    ),
    "Polish": (
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni "
        "rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa. Każdy człowiek posiada "
        "wszystkie prawa i wolności zawarte w niniejszej Deklaracji bez względu na jakiekolwiek różnice rasy, "
        "koloru, płci, języka, wyznania."
    ),
    "Czech": (
        "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím a "
        "mají spolu jednat v duchu bratrství. Každý má všechna práva a všechny svobody, stanovené touto "
        "deklarací, bez jakéhokoli rozlišování, zejména podle rasy, barvy, pohlaví, jazyka, náboženství, "
        "politického nebo jiného smýšlení."
    ),
    "Russian": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
        "должны поступать в отношении друг друга в духе братства. Каждый человек должен обладать всеми правами и "
        "всеми свободами, провозглашенными настоящей Декларацией, без какого бы то ни было различия."
    ),
    "Greek": (
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι "
        "με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης."
    ),
    "Japanese": (
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心と"
        "を授けられており、互いに同胞の精神をもって行動しなければならない。"
    ),
    "Chinese": (
        "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。人人有资格享有本宣言"
        "所载的一切权利和自由,不分种族、肤色、性别、语言、宗教、政治或其他见解。"
    ),
    "Traditional Chinese": (
        "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心,並應以兄弟關係的精神相對待。人人有資格享有本宣言"
        "所載的一切權利和自由,不分種族、膚色、性別、語言、宗教、政治或其他見解。"
    ),
    "Korean": (
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 "
        "부여받았으며 서로 형제애의 정신으로 행동하여야 한다."
    ),
}


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("German", "cp1252"),
        ("French", "cp1252"),
        ("Polish", "cp1250"),
        ("Polish", "iso8859-2"),
        ("Czech", "cp1250"),
        ("Czech", "iso8859-2"),
        ("Russian", "cp1251"),
        ("Russian", "koi8-r"),
        ("Greek", "cp1253"),
        ("Japanese", "shift_jis"),
        ("Japanese", "euc-jp"),
        ("Chinese", "gb18030"),
        ("Traditional Chinese", "big5"),
        ("Korean", "euc-kr"),
    ],
)
def test_encodings_are_detected(language: str, encoding: str) -> None:
    text = TEXTS[language]
    assert decode(text.encode(encoding), "auto") == text


@pytest.mark.parametrize("language", TEXTS)
def test_utf_8_is_taken_as_what_it_is(language: str) -> None:
    assert decode(TEXTS[language].encode(), "auto") == TEXTS[language]


@pytest.mark.parametrize("language", ["German", "Russian", "Chinese"])
def test_damaged_utf_8_is_no_other_encoding(language: str) -> None:
    """Every byte means something in cp1252, and the text would be mojibake from end to end."""
    data = TEXTS[language].encode()
    for broken in (data[:40] + b"\xff" + data[40:], data[:-1] + b"\xc3"):
        assert detected(broken) is None
        with pytest.raises(Unreadable, match=r"wrong encoding: not utf-8: byte 0x.*say so in `encoding`"):
            decode(broken, "auto")


def test_what_no_two_detectors_agree_on_is_refused() -> None:
    """One sign of a currency tells nothing: the same byte is Ł in Polish."""
    data = "It costs £90, they say, and that is all there is to it.".encode("cp1252")
    assert detected(data) is None
    assert decode(data, "cp1252") == "It costs £90, they say, and that is all there is to it."


@pytest.mark.parametrize(
    "line",
    ["# -*- coding: iso-8859-15 -*-", "#!/usr/bin/python\n# vim: set fileencoding=iso-8859-15 :"],
)
def test_a_declaration_is_believed_where_the_text_is_not_utf_8(line: str) -> None:
    text = f"{line}\nprint('10 € für Žižka')\n"
    assert decode(text.encode("iso8859-15"), "auto") == text
    assert decode(text.encode(), "auto") == text
    assert "€" not in decode(text.encode("iso8859-15"), "cp1252")  # what the recipe says counts more


def test_declarations_that_mean_nothing_are_passed_over() -> None:
    text = f"# coding: {{}}\n{TEXTS['German']}"
    for name in ("undefined", "rot13", "klingon", "utf-8"):
        assert decode(text.format(name).encode("cp1252"), "auto") == text.format(name)


def test_labels_mean_what_browsers_take_them_for() -> None:
    assert [meaning_of(label) for label in ("GB2312", "latin1", "ISO-8859-8-I", "windows-874", "nonsense")] == [
        "gb18030",
        "cp1252",
        "iso8859-8",
        "cp874",
        None,
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251"])
def test_long_files_line_by_line(tmp_path: Path, encoding: str) -> None:
    """The first megabyte is ASCII, which tells nothing."""
    path = tmp_path / "a.csv"
    text = "plain line\r\n" * 100_000 + TEXTS["Russian"] + "\n"
    path.write_bytes(text.encode(encoding))
    with open_text(path, "auto") as file:
        assert file.read() == text


def test_without_the_detectors_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import llmtune.extras

    monkeypatch.setattr(llmtune.extras, "have", lambda module: module != "chardetng_py" and module in sys.modules)
    assert decode(TEXTS["German"].encode(), "auto")
    with pytest.raises(MissingExtra, match=r"telling the encoding .*chardetng_py"):
        decode(TEXTS["German"].encode("cp1252"), "auto")


@pytest.mark.parametrize("label", ["punycode", "unicode_escape", "Raw-Unicode-Escape", "idna", "undefined", "utf-7"])
def test_codecs_that_are_no_encoding_of_a_page_mean_nothing(label: str) -> None:
    from llmtune.corpus.readers.detect import meaning_of

    assert meaning_of(label) is None


def test_a_binary_file_of_any_size_is_told_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "sparse.txt").touch()
    os.truncate(tmp_path / "sparse.txt", 1 << 41)  # 2 TB, nothing of which is on the disk
    with pytest.raises(Unreadable, match="binary"):
        read_text(tmp_path / "sparse.txt", "auto")


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16"])
@pytest.mark.parametrize(
    ("format", "file", "texts"),
    [
        ("text", "naïve\n漢字", ["naïve\n漢字"]),
        ("html", "<p>naïve 漢字</p>", ["naïve 漢字"]),
        ("csv", 'id,text\n1,naïve\n2,"漢\n字"\n', ["naïve", "漢\n字"]),
        ("jsonl", '{"text": "naïve\u2028\u0a0a"}\r\n\n{"text": "漢字"}', ["naïve\u2028\u0a0a", "漢字"]),
        ("jsonl", '[{"text": "naïve"},\n{"text": "漢字"}]', ["naïve", "漢字"]),
    ],
)
def test_wide_encodings_marked_and_named(
    tmp_path: Path, format: str, file: str, texts: list[str], encoding: str, marked: bool
) -> None:
    path = tmp_path / "a"
    written = "utf-16-le" if encoding == "utf-16" else encoding
    path.write_bytes((("\ufeff" if marked else "") + file).encode(written))
    found = list(reader_of(format).read(path, Source(path=path, encoding="auto" if marked else encoding)))
    assert [one.text for one in found if isinstance(one, RawDocument)] == texts


def test_lines_of_utf16_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "a"}\n{"text"}\n{"text": "b"}\n'.encode("utf-16"))
    first, wrong, last = reader_of("jsonl").read(path, Source(path=path))
    assert (first, last) == (RawDocument("#1", "a"), RawDocument("#3", "b"))
    assert isinstance(wrong, Rejected)
    path.write_bytes(path.read_bytes() + b"{")
    with pytest.raises(Unreadable, match="wrong encoding: not utf-16"):
        list(reader_of("jsonl").read(path, Source(path=path)))
    one = tmp_path / "a.json"
    one.write_bytes('{\n "text": "a"\n}'.encode("utf-16"))
    assert list(reader_of("jsonl").read(one, Source(path=one))) == [RawDocument("#1", "a")]
