"""EPUB: books put together by hand after the specification (EPUB 3.3)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.html import page_of
from llmtune.corpus.readers.reader import RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source
from tests.corpus.office_files import SPOILT, Spoil

CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>On locks</dc:title><dc:rights>CC-BY-4.0</dc:rights></metadata>
<manifest>
<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="text/two%20b.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/one.xhtml" media-type="application/xhtml+xml"/>
<item id="c" href="gone.xhtml" media-type="application/xhtml+xml"/>
<item id="p" href="cover.png" media-type="image/png"/>
</manifest>
<spine><itemref idref="p"/><itemref idref="n"/><itemref idref="a"/><itemref idref="c"/><itemref idref="b"/></spine>
</package>"""
ONE = """<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="x.js"/></head>
<body><a id="top"/><h1>Waiting</h1><p>A backend waits<br/>for a lock. <i/>Naïve.</p></body></html>"""
TWO = """<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>
<h2>Code</h2><pre>a = 1
b = 2</pre><ul><li>First</li><li>Second</li></ul></body></html>"""
MEMBERS = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": PACKAGE,
    "OEBPS/nav.xhtml": "<html><body><nav><a href='text/one.xhtml'>Waiting, a list of contents</a></nav></body></html>",
    "OEBPS/text/one.xhtml": ONE,
    "OEBPS/text/two b.xhtml": TWO,
    "OEBPS/unlisted.xhtml": "<html><body><p>No page of the book.</p></body></html>",
    "../../escape.xhtml": "<html><body><p>Outside.</p></body></html>",
}


def read(path: Path) -> list[RawDocument | Rejected]:
    return list(reader_of("epub").read(path, Source.model_validate({"path": path, "format": "epub"})))


def book(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in members.items():
            zipped.writestr(name, text)
    return path


def test_chapters_in_the_order_of_the_spine(tmp_path: Path) -> None:
    gone, document = read(book(tmp_path / "a.epub", MEMBERS))
    assert isinstance(gone, Rejected)
    assert (gone.part, gone.reason) == ("#OEBPS/gone.xhtml", "damaged file")
    chapters = [
        "# Waiting",
        "A backend waits\nfor a lock. Naïve.",
        "## Code",
        "```\na = 1\nb = 2\n```",
        "- First\n- Second",
    ]
    assert document == RawDocument(text="\n\n".join(["# On locks", *chapters]), licence="CC-BY-4.0")
    assert list(tmp_path.parent.glob("escape*")) == []


def test_pages_of_any_name_and_of_the_type_of_any_xml(tmp_path: Path) -> None:
    package = (
        PACKAGE.replace("text/two%20b.xhtml", "text/two%20b.xht")
        .replace("text/one.xhtml", "one")
        .replace(
            'href="gone.xhtml" media-type="application/xhtml+xml"', 'href="three.xhtml" media-type="application/xml"'
        )
    )
    pages = {
        "OEBPS/one": ONE,
        "OEBPS/text/two b.xht": TWO,
        "OEBPS/three.xhtml": "<html><body><p>Three</p></body></html>",
    }
    (document,) = read(book(tmp_path / "a.epub", MEMBERS | pages | {"OEBPS/book.opf": package}))
    assert isinstance(document, RawDocument)
    assert document.text is not None
    assert document.text.split("\n\n")[1::2] == ["# Waiting", "Three", "```\na = 1\nb = 2\n```"]


@pytest.mark.parametrize(
    "chapter",
    [
        "<header><h1>Seven</h1><p>A motto</p></header><p>Body</p>"
        '<aside epub:type="footnote" id="n1"><p>1 Note</p></aside>',
        "<header><h1>Seven</h1></header><p>A motto</p><article><p>Body</p></article><footer>1 Note</footer>",
        '<h1>Seven</h1><div class="sidebar">A motto</div><p class="related">Body</p><form><p>1 Note</p></form>',
    ],
)
def test_a_chapter_is_text_from_end_to_end(tmp_path: Path, chapter: str) -> None:
    page = (
        '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>x</title></head>'
        f"<body><nav><a href='a'>Contents</a></nav>{chapter}</body></html>"
    )
    document = read(book(tmp_path / "a.epub", MEMBERS | {"OEBPS/text/one.xhtml": page}))[-1]
    assert isinstance(document, RawDocument)
    assert document.text is not None
    assert document.text.split("\n\n")[:5] == ["# On locks", "# Seven", "A motto", "Body", "1 Note"]


def test_who_holds_the_copyright_is_no_licence(tmp_path: Path) -> None:
    package = PACKAGE.replace("CC-BY-4.0", "2023, the authors")
    document = read(book(tmp_path / "a.epub", MEMBERS | {"OEBPS/book.opf": package}))[-1]
    assert isinstance(document, RawDocument)
    assert document.licence is None


def test_protected_chapters(tmp_path: Path) -> None:
    def encryption(name: str) -> str:
        return (
            '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
            'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>'
            f'<enc:CipherReference URI="{name}"/></enc:CipherData></enc:EncryptedData></encryption>'
        )

    fonts = MEMBERS | {"META-INF/encryption.xml": encryption("OEBPS/font.otf")}
    assert read(book(tmp_path / "a.epub", fonts)) == read(book(tmp_path / "b.epub", MEMBERS))
    locked = MEMBERS | {"META-INF/encryption.xml": encryption("OEBPS/text/one.xhtml")}
    with pytest.raises(Unreadable, match="password-protected file: OEBPS/text/one"):
        read(book(tmp_path / "c.epub", locked))


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_cannot_be_read(tmp_path: Path, spoil: Spoil, message: str) -> None:
    path = book(tmp_path / "a.epub", MEMBERS)
    spoil(path)
    with pytest.raises(Unreadable, match=message):
        read(path)


@pytest.mark.parametrize("name", ["OEBPS/book.html", "OEBPS/BOOK.XML"])
def test_a_package_of_another_name_defines_no_entities_either(tmp_path: Path, name: str) -> None:
    package = PACKAGE.replace("?>", '?><!DOCTYPE x [<!ENTITY a "ha">]>', 1).replace("On locks", "&a;")
    members = MEMBERS | {"META-INF/container.xml": CONTAINER.replace("OEBPS/book.opf", name), name: package}
    with pytest.raises(Unreadable, match=f"damaged file: {name} defines XML entities"):
        read(book(tmp_path / "a.epub", members))


def test_a_member_without_a_name(tmp_path: Path) -> None:
    path = book(tmp_path / "a.epub", {"x": "text"})
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02")
    entry = bytearray(data[at : data.rindex(b"PK\x05\x06")])
    entry[28:30] = (0).to_bytes(2, "little")  # the length of its name
    entry[30:32] = (1).to_bytes(2, "little")  # the byte that was its name is an extra field now
    path.write_bytes(data[:at] + bytes(entry) + data[data.rindex(b"PK\x05\x06") :])
    with pytest.raises(Unreadable, match="damaged file: not a whole zip file"):
        read(path)


def test_a_chapter_is_read_as_the_page_is(tmp_path: Path) -> None:
    page = TWO.replace("<title>x</title>", "")
    [document] = read(
        book(
            tmp_path / "a.epub",
            MEMBERS
            | {
                "OEBPS/text/one.xhtml": page,
                "OEBPS/book.opf": PACKAGE.replace("On locks", "").replace('idref="c"', 'idref="z"'),
            }
            | {"OEBPS/text/two b.xhtml": ""},
        )
    )
    assert isinstance(document, RawDocument)
    assert document.text == page_of(page)[0]
