"""PDF text against the HTML of the same manual: the share of words that are wrong, missing or too many.

    apt-get install debian-policy developers-reference
    python benchmarks/pdf_text.py

Both are read as the corpus stage reads them, words broken at line ends joined by its clean-up. Compared are runs of
letters, case aside: the pages number their sections anew, and the HTML reader names the language of code. The list of
contents before the first chapter is left out of the PDF, as it is of the pages. The error is the word-level edit
distance (rapidfuzz) over the words of the HTML; what is left over on both sides is aligned once more, since footnotes
stand at the foot of the page in one and at the end of the chapter in the other.
"""

from __future__ import annotations

import argparse
import gzip
import re
import tempfile
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from llmtune.corpus.clean.hyphens import BrokenWords, Hyphens, count_words
from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source

MANUALS = {
    "developers-reference": (
        "/usr/share/developers-reference/developers-reference.pdf",
        "/usr/share/developers-reference/index.html",
    ),
    "debian-policy": (
        "/usr/share/doc/debian-policy/policy.pdf.gz",
        "/usr/share/doc/debian-policy/policy.html/index.html",
    ),
}
MOST_WRONG = 0.02
_MOVED = 3  # words in a row that count as a passage standing elsewhere
_OPENING = 8  # words of the first chapter by which its beginning is found


def main() -> None:
    """Print the error of each manual; exit with 1 when one is above 2 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", type=int, default=0, help="how many of the longest differences to print")
    options = parser.parse_args()
    errors = [compare(name, Path(pdf), Path(index), options.show) for name, (pdf, index) in MANUALS.items()]
    raise SystemExit(max(errors) > MOST_WRONG)


def compare(name: str, pdf: Path, index: Path, show: int) -> float:
    """The word error of a PDF against the pages that the index of its HTML names, in that order."""
    html = words("\n\n".join(text_of(page, "html") for page in chapters(index)))
    read = words(joined(pdf_text(pdf)))
    read = read[opening(html, read) :]
    only_html, only_pdf = left_over(html, read, 1)
    missing, extra = left_over(
        [word for run in only_html for word in run], [word for run in only_pdf for word in run], _MOVED
    )
    lost, more = sum(map(len, missing)), sum(map(len, extra))
    error = sum(max(len(one), len(other)) for one, other in zip(missing, extra, strict=True)) / len(html)
    print(f"{name}: {len(html):,} words, {lost:,} wrong or missing, {more:,} wrong or too many: {error:.2%}")
    for kind, runs in (("missing", missing), ("extra", extra)):
        for run in sorted(runs, key=len, reverse=True)[:show]:
            print(f"  {kind}: {' '.join(run)[:150]}")
    return error


def left_over(one: list[str], other: list[str], shortest: int) -> tuple[list[list[str]], list[list[str]]]:
    """The runs of words on each side that the other has not, in the alignment of least edits. Equal runs shorter than
    `shortest` words do not count as equal."""
    runs: tuple[list[list[str]], list[list[str]]] = ([], [])
    for step in Levenshtein.opcodes(one, other):
        if step.tag != "equal" or step.src_end - step.src_start < shortest:
            runs[0].append(one[step.src_start : step.src_end])
            runs[1].append(other[step.dest_start : step.dest_end])
    return runs


def chapters(index: Path) -> list[Path]:
    """The pages that an index links to, in its order."""
    names = re.findall(r'href="([\w-]+\.html)', index.read_text())
    return [index.parent / name for name in dict.fromkeys(names) if not re.match("genindex|search|index", name)]


def opening(html: list[str], read: list[str]) -> int:
    """Where the first chapter begins in the PDF: behind the list of contents."""
    for start in range(200):
        wanted = html[start : start + _OPENING]
        for at in range(len(read)):
            if read[at : at + _OPENING] == wanted:
                return max(0, at - start)
    raise SystemExit("the PDF does not begin as the pages do")


def words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", re.sub(r"^(\s*```+)\S+$", r"\1", text, flags=re.MULTILINE).casefold())


def joined(text: str) -> str:
    words = BrokenWords()
    words.look(text)
    return Hyphens(count_words(text, words.wanted)).join(text, keep_lines=False)[0]


def pdf_text(path: Path) -> str:
    if path.suffix != ".gz":
        return text_of(path, "pdf")
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(gzip.decompress(path.read_bytes()))
        file.flush()
        return text_of(Path(file.name), "pdf")


def text_of(path: Path, format: str) -> str:
    source = Source.model_validate({"path": path, "format": format})
    documents = reader_of(format).read(path, source)
    return "\n\n".join(document.text or "" for document in documents if isinstance(document, RawDocument))


if __name__ == "__main__":
    main()
