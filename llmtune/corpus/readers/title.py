"""Titles: of which an author thought, and where they stand in a document's text."""

from __future__ import annotations

import re

_LONGEST = 200
# What programs write where nobody wrote a title: the name of the file, or that there is none.
_BY_PROGRAM = re.compile(
    r"""(?:untitled|unknown|none|title|document|presentation|book|slide)?[\s\d_-]*
      | (?:powerpoint|pdf)?[ ]?(?:presentation|document)
      | microsoft[ ](?:word|powerpoint|excel)\b.* | about:blank
      | \S*[/\\]\S* | .*\.(?:docx?|odt|rtf|txt|md|tex|dvi|ps|pdf|indd|qxd|pptx?|odp|xlsx?|html?|xml|fm|epub)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def sane_title(title: object) -> str | None:
    """A title from a file's properties, white space collapsed; None where it is nothing that a person wrote."""
    text = " ".join(title.replace("\0", "").split()) if isinstance(title, str) else ""
    letters = sum(map(str.isalpha, text))
    return text if letters >= 2 and len(text) <= _LONGEST and not _BY_PROGRAM.fullmatch(text) else None


def with_title(title: str | None, text: str) -> str:
    """Put the title above the text unless the text begins with a heading that says it already."""
    if not text or not title:
        return text
    first = text.split("\n", 1)[0]
    if first.startswith("#"):
        heading, said = _letters(first), _letters(title)
        if heading and (heading in said or said in heading):
            return text
    return f"# {title}\n\n{text}"


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
