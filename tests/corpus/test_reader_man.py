"""Manual pages: man(7) and mdoc(7) against hand-written text and groff's own output."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from llmtune.corpus.readers.man import page_text
from llmtune.corpus.readers.roff import Call, Roff
from llmtune.corpus.readers.roff_text import plain
from tests.corpus.conftest import Build

MAN = r"""'\" t
.\" a comment
.de Sp
.if t .sp .5v
.if n .sp
..
.ie \n(.g .ds Aq \(aq
.el       .ds Aq '
.TH LS 1 "May 2024" "GNU coreutils"
.SH NAME
ls \- list directory contents \" said twice
.SH SYNOPSIS
.B ls
[\fIOPTION\fR]...
.RI [ FILE ]...
.SH "THE OPTIONS"
.TP
.BR \-a ", " \-\-all
do not ignore entries starting with \*(Aq.\*(Aq,
ever
.TP
\fB\-w\fR
.TQ
\fB\-\-width\fR=\fICOLS\fR
set output width
.Sp
to \(lqwide\(rq
.IP \(bu 2
one
.IP \(bu
two
with more
.IP 1.
first
.PP
See
.UR https://gnu.example/
the site
.UE ,
or
.UR https://other.example/
.UE .
.SS Example
.nf
.RS 4
$ ls \-l \\
    na\(:ive.txt
.RE
.fi
.TS
tab(;) box;
lb l.
Name;Use
_
a;T{
several
.B words
T}
b|c;two
.TE
"""

MAN_TEXT = """# LS(1)

## NAME

ls - list directory contents

## SYNOPSIS

ls [OPTION]... [FILE]...

## THE OPTIONS

-a, --all
do not ignore entries starting with '.', ever

-w
--width=COLS
set output width

to “wide”

- one
- two with more
1. first

See the site, or https://other.example/.

### Example

```
$ ls -l \\
    naïve.txt
```

| Name | Use |
| --- | --- |
| a | several words |
| b\\|c | two |"""

MDOC = r""".Dd May 1, 2024
.Dt CAT 1
.Os
.Sh NAME
.Nm cat
.Nd concatenate files
.Sh SYNOPSIS
.Nm
.Op Fl belnstuv
.Op Fl o Ar file
.Op Ar
.Sh DESCRIPTION
The
.Nm
utility reads files
.Pq see Xr dd 1 ,
one by one.
.Bl -tag -width indent
.It Fl b
Number the
.Em non-blank
lines.
.It Fl -help , Fl h
.Do
Say so
.Dc .
.El
.Bl -bullet
.It
one
.It
two
.El
.Bd -literal
cat  a | b
.Ed
Call
.Fn strlen "const char *s"
in
.In string.h .
.Ex -std
"""

MDOC_TEXT = """# CAT(1)

## NAME

cat – concatenate files

## SYNOPSIS

cat [-belnstuv] [-o file] [file ...]

## DESCRIPTION

The cat utility reads files (see dd(1)), one by one.

-b
Number the non-blank lines.

--help, -h
“Say so”.

- one
- two

```
cat  a | b
```

Call strlen(const char *s) in <string.h>. The cat utility exits 0 on success, and >0 if an error occurs."""


def test_man() -> None:
    assert page_text(MAN) == MAN_TEXT


def test_mdoc() -> None:
    assert page_text(MDOC) == MDOC_TEXT


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("page", [MAN, MDOC], ids=["man", "mdoc"])
def test_the_words_are_those_that_groff_prints(page: str) -> None:
    command = ["groff", "-K", "utf-8", "-t", "-mandoc", "-Tutf8", "-P-cbou", "-rHY=0", "-rLL=900n", "-rcR=1"]
    printed = subprocess.run(command, input=page.encode(), capture_output=True, check=True).stdout.decode()
    body = "\n".join(printed.strip().split("\n")[1:-1])  # without the head and the foot of the page
    theirs, ours = (Counter(re.findall(r"\w+", text.replace("gnu.example", ""))) for text in (body, page_text(page)))
    assert sum((theirs - ours).values()) <= 1 + 2 * (page == MAN)  # of the address behind a link
    assert ours - theirs <= Counter(re.findall(r"\w+", page_text(page).split("\n")[0]))


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (".Fo crypt\n.Fa 'char *a'\n.Fa b c\n.Fc ,\n.Fa x y", "crypt('char *a', b, c), x y"),
        (".Fo f\n.Fc\nand\n.Oo\n.Fl z\n.Oo Ar v\n.Oc\n.Oc Ns Ar e", "f() and [-z [v]]e"),
        ("A\n.Po\nsee\n.Xr ls 1\n.Pc ,\n.Do\nquoted\n.Dc .\nB", "A (see ls(1)), “quoted”. B"),
        (".No foo Ns\n.Ar bar\nis a\n.Em (\nthen", "foobar is a ( then"),
        ("A\n.Sm off\n.Oo\n.Ar user @\n.Oc\n.Ar host\n.Sm on\nB", "A [user@]host B"),
        ("A\n.Sm off\n.Ar a\ntext\n.Ar b\n.Ar c\n.Sm on\nB", "A atext bc B"),
        (".Bl -tag\n.It Fl L Xo\n.Sm off\n.Oo Ar a : Oc\n.Ar b\n.Sm on\n.Xc\nText.\n.El", "-L [a:]b\nText."),
        (
            ".St -p1003.1-2008 ,\n.St -isoC-99\n.St -new",
            "IEEE Std 1003.1-2008 (“POSIX.1”), ISO/IEC 9899:1999 (“ISO C99”) -new",
        ),
        (".Bd -literal\nfoo(\n)\n.Oo\n.Fl z\n.Oc\n.Ed", "```\nfoo(\n)\n[-z]\n```"),
        (".Fo f\n.Fa x\n.Sh NEXT\n.Fa y\n.Fa z", "f(x\n\n## NEXT\n\ny z"),
    ],
)
def test_what_lines_of_mdoc_open(lines: str, text: str) -> None:
    page = f".Dd January 1, 2020\n.Dt BAR 3\n.Os\n.Sh TEXT\n{lines}\n".replace("'", '"')
    assert page_text(page) == f"# BAR(3)\n\n## TEXT\n\n{text}".replace("'", "")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"\fBbold\fP \f(CWcode\fR \f[BI]x\f[] \s-1small\s0 \s[+2]y\s0", "bold code x small y"),
        (r"a\-b\(em\[u00E9]\(:u\(*a\[char65] \(co\(bu", "a-b—éüαA ©•"),
        (r"C:\e\&dir\ name\|\^\%\:x \h'4'\v'1'\w'ab' \o'ab'", r"C:\dir namex 48 ab"),
        (r"\m[red]red\m[] \X'tty: link'end \z\N'65'", "red end A"),
        ("ends in \\", "ends in "),
    ],
)
def test_escapes(escaped: str, text: str) -> None:
    assert plain(escaped) == text


@pytest.mark.parametrize(
    ("page", "events"),
    [
        (".ds name Bob\n.ds who \\*[name] B.\nHello \\*[who]", ["Hello Bob B."]),
        (".de Hi\nhi \\\\$1 of \\\\n(.$\n.B \\\\$*\n..\n.Hi you there", ["hi you of 2", Call("B", ("you", "there"))]),
        (".nr x 2\n.if \\nx>1 big\n.if \\nx=3 three\n.ie t paper\n.el terminal", ["big", "terminal"]),
        (".if t \\{\\\nhidden\n.ie n a\n.el \\{\\\nb\n.\\}\n.\\}\nshown", ["shown"]),
        (".if !'a'b' differ\n.if '\\*x'' empty", ["differ", "empty"]),
        (".ig end\nignored\n.end\n.am B\nmore\n..\ntext \\# comment", ["text "]),
        ('.B "two words" "a ""quote""" last\\ one', [Call("B", ("two words", 'a "quote"', "last one"))]),
        ("split \\\nline", ["split line"]),
        (".tr \\(*W-\n\\(*W x", ["- x"]),
    ],
)
def test_requests(page: str, events: list[str | Call]) -> None:
    assert [event for event in Roff(page).events() if event not in ("", Call("\\}", ()))] == events


def test_no_page_goes_on_for_ever() -> None:
    assert list(Roff(".de A\n.A\n.A\n..\n.A").events()) == []
    assert len("".join(str(event) for event in Roff(".ds a \\*b\\*b\n.ds b \\*a\\*a\n\\*a").events())) < 1_000_000
    doubling = "".join(f".ds {chr(98 + n)} \\*{chr(97 + n)}\\*{chr(97 + n)}\n" for n in range(25))
    assert len("".join(str(event) for event in Roff(f".ds a xx\n{doubling}\\*z").events())) < 1_000_000


@pytest.mark.parametrize(
    "page",
    [
        ".de m\n.m \\$* \\$*\n..\n.m aaaa",
        ".de m\n.m \\$1\\$1\n..\n.m aaaa",
        ".de m\n.m \\$@ \\$@\n..\n.m aaaa",
        f".ds a {'x' * 10_000}\n.de m\n{chr(92)}*a" + "\\*a" * 3000 + "\n..\n" + ".m\n" * 10,
    ],
)
def test_no_page_grows_without_end(page: str) -> None:
    assert sum(len(str(event)) for event in Roff(page).events()) < 1_200_000 + 20 * len(page)


@pytest.mark.parametrize(
    "line",
    ["\\*[" * 20_000, "\\*[a " * 12_000, "\\n[" * 20_000, "\\[" * 50_000, "\\f[" * 50_000, ".if " + "1" * 60_000],
)
def test_no_line_takes_long(line: str) -> None:
    begin = time.process_time()
    list(Roff(line).events())
    assert time.process_time() - begin < 3  # minutes where what is not closed is looked for from each place anew


@pytest.mark.parametrize(
    ("page", "events"),
    [
        (".if +.>1 x", []),
        (".if 2.5>+.5 x", ["x"]),
        (f".if {'1' * 5000} x", ["x"]),
        (f".if {'1' * 5000}>2 x", ["x"]),
        (f".de m\na\\$[{'1' * 5000}]\n..\n.m b", [f"a$[{'1' * 5000}]"]),
        (f"a\\N'{'1' * 5000}'", ["a"]),
        ("a\\N'55296'\\[uD800]\\[u0041]", ["aA"]),  # half of a surrogate pair is no character
    ],
)
def test_numbers_that_are_none(page: str, events: list[str]) -> None:
    assert list(Roff(page).events()) == events


def test_compressed_pages_of_a_folder(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "man" / "man1"
    folder.mkdir(parents=True)
    (folder / "ls.1.gz").write_bytes(gzip.compress(MAN.encode()))
    (folder / "cat.1").write_text(MDOC)
    (folder / "dir.1").write_text(".so man1/ls.1\n")
    built = build([{"path": tmp_path / "man", "format": "man"}], near_duplicates=None)
    texts = sorted(document.text or "" for document in built.documents)
    assert texts == [MDOC_TEXT, MAN_TEXT]


def test_a_table_of_one_very_long_row_stays_small() -> None:
    rows = "\n".join(["\t".join("x" for _ in range(5000)), *["y"] * 2000])
    text = page_text(f".TH A 1\n.SH NAME\na \\- b\n.TS\nl l.\n{rows}\n.TE\n")
    assert "| x | x |" in text
    assert len(text) < 2_000_000
