"""What the readers of text make of real files, against what others make of them: `python benchmarks/readers.py`.

encodings  translated message catalogues (/usr/share/locale), encoded again as they would have been: how many texts are
           read right, wrongly, or refused
man        manual pages (/usr/share/man): their words against those that groff prints
rst        manuals that come with their reStructuredText (developers-reference, debian-policy): its words against those
           of the pages that Sphinx made of it
"""

from __future__ import annotations

import argparse
import gettext
import gzip
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from llmtune.corpus.readers.decode import decode
from llmtune.corpus.readers.html import page_of
from llmtune.corpus.readers.man import page_text as man_text
from llmtune.corpus.readers.reader import Unreadable
from llmtune.corpus.readers.rst import rst_text

ENCODINGS = {
    **dict.fromkeys(("de", "fr", "es", "it", "pt_BR", "sv", "nl", "da", "fi"), ("cp1252",)),
    **dict.fromkeys(("pl", "cs", "hu", "sl"), ("cp1250", "iso8859-2")),
    "ro": ("iso8859-2",),
    "ru": ("cp1251", "koi8-r"),
    "uk": ("cp1251", "koi8-u"),
    "bg": ("cp1251",),
    "el": ("cp1253", "iso8859-7"),
    "tr": ("cp1254",),
    "he": ("cp1255",),
    "ar": ("cp1256",),
    "lt": ("cp1257",),
    "lv": ("cp1257",),
    "vi": ("cp1258",),
    "th": ("tis-620",),
    "ja": ("shift_jis", "euc-jp"),
    "ko": ("euc-kr",),
    "zh_CN": ("gb18030", "gbk"),
    "zh_TW": ("big5",),
}
SIZES = (120, 500, 3000)  # characters
GROFF = ("groff", "-K", "utf-8", "-t", "-mandoc", "-Tutf8", "-P-cbou", "-rHY=0", "-rLL=1000n", "-rcR=1")
MANUALS = ("/usr/share/developers-reference", "/usr/share/doc/debian-policy/policy.html")
ALIKE = str.maketrans({"‘": "'", "’": "'", "−": "-", "‐": "-"})


def encodings(count: int, random_: random.Random) -> None:
    """`count` texts of each language, encoding and size."""
    for size in SIZES:
        found: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        for language, codecs in ENCODINGS.items():
            messages = list(messages_of(language))
            for codec in codecs if messages else ():
                for _ in range(count):
                    data = piece(messages, size, random_).encode(codec, "ignore")
                    text = data.decode(codec)
                    try:
                        data.decode()
                        continue  # all of it ASCII
                    except UnicodeDecodeError:
                        pass
                    try:
                        outcome = "right" if decode(data, "auto") == text else "wrong"
                    except Unreadable:
                        outcome = "refused"
                    found[outcome] += 1
                    wrong[f"{language} in {codec}"] += outcome == "wrong"
        total = sum(found.values())
        shares = ", ".join(
            f"{found[name]} {name} ({found[name] / total:.1%})" for name in ("right", "wrong", "refused")
        )
        print(f"{size} characters: {total} texts, {shares}; wrong: {dict(+wrong) or 'none'}")


def messages_of(language: str) -> Iterator[str]:
    """Translated messages of some length, in the order of the catalogues' names."""
    for path in sorted(Path("/usr/share/locale", language, "LC_MESSAGES").glob("*.mo")):
        with path.open("rb") as file:
            try:
                catalogue = gettext.GNUTranslations(file)
            except (OSError, UnicodeDecodeError):
                continue
        translated = vars(catalogue)["_catalog"]
        yield from (text for key, text in translated.items() if key and isinstance(text, str) and len(text) > 20)


def piece(messages: list[str], size: int, random_: random.Random) -> str:
    """Messages that follow one another, cut to a size."""
    text, at = "", random_.randrange(len(messages))
    while len(text) < size:
        text, at = f"{text}{messages[at % len(messages)]}\n", at + 1
    return text[:size]


def man(count: int, random_: random.Random) -> None:
    """`count` pages of man(7) and as many of mdoc(7), drawn from all; of programs with hundreds of pages a tenth."""
    pages: dict[str, list[Path]] = {"man": [], "mdoc": []}
    for path in sorted(Path("/usr/share/man").glob("man*/*.gz")):
        if path.is_symlink() or (path.name.startswith("gcloud") and random_.random() > 0.1):
            continue
        raw = gzip.decompress(path.read_bytes())
        if not raw.lstrip().startswith(b".so "):
            pages["mdoc" if re.search(rb"^\.Dd", raw, re.MULTILINE) else "man"].append(path)
    for macros, paths in pages.items():
        drawn = random_.sample(paths, min(count, len(paths)))
        compared = []
        for path in drawn:
            raw = gzip.decompress(path.read_bytes())
            printed = subprocess.run(GROFF, input=raw, capture_output=True, check=False).stdout.decode(errors="replace")
            body = "\n".join(printed.strip().split("\n")[1:-1])  # without the head and the foot of the page
            compared.append((body, man_text(decode(raw, "auto"))))
        report(f"{macros}: {len(drawn)} of {len(paths)} pages", compared)


def rst() -> None:
    """All pages of the manuals."""
    compared = []
    for root in map(Path, MANUALS):
        for path in sorted((root / "_sources").rglob("*.rst.txt")):
            page = root / path.relative_to(root / "_sources").as_posix().replace(".rst.txt", ".html")
            if page.exists():
                compared.append((page_of(page.read_text())[0], rst_text(path.read_text())))
    report(f"rst: {len(compared)} pages", compared)


def report(name: str, compared: list[tuple[str, str]]) -> None:
    """The share of their words that are in ours, and of ours in theirs, page by page as multisets."""
    theirs, ours = (
        [Counter(re.findall(r"\w+", text.translate(ALIKE))) for text in texts] for texts in zip(*compared, strict=True)
    )
    common = sum((one & other).total() for one, other in zip(theirs, ours, strict=True))
    there, here = sum(map(Counter.total, theirs)), sum(map(Counter.total, ours))
    print(
        f"{name}: {there} words there, {here} here; {common / there:.2%} of theirs found, {common / here:.2%} of ours"
    )


def main() -> None:
    """Print a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["encodings", "man", "rst"])
    parser.add_argument("--count", type=int, default=20, help="texts of each kind, or pages")
    arguments = parser.parse_args()
    random_ = random.Random(7)
    if "encodings" in arguments.what:
        encodings(arguments.count, random_)
    if "man" in arguments.what:
        man(10 * arguments.count, random_)
    if "rst" in arguments.what:
        rst()


if __name__ == "__main__":
    main()
