"""What a person says about a corpus: where its documents are, and what to do with them. Imports nothing heavy."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from llmtune.settings import RecipePath, Settings

Format = Literal["auto", "text", "markdown", "html", "jsonl", "parquet", "python-docs"]
Layout = Literal["auto", "text", "openai", "sharegpt", "alpaca", "strings"]

# Formats whose files hold records (rows) rather than one document.
RECORD_FORMATS = ("jsonl", "parquet")


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)  # refuses codecs that are not of text: hex, rot13, base64
        return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        raise ValueError(f"unknown text encoding '{name}'; for example utf-8, latin-1, cp1252, shift_jis") from None


class Columns(Settings):
    """Which column (JSON key; `a.b` reaches into objects) of a record holds what."""

    text: str = Field("text", description="Column with the text of a document.")
    title: str | None = Field(None, description="Column whose value is put above the text as a heading.")
    licence: str | None = Field(None, description="Column with the licence of each document.")
    messages: str | None = Field(
        None, description="Column with the list of turns; default: `messages` or `conversations`, whichever is there."
    )
    role: str | None = Field(None, description="Key of a turn that says who speaks; default: `role` or `from`.")
    content: str | None = Field(None, description="Key of a turn that says what; default: `content` or `value`.")
    instruction: str = Field("instruction", description="Alpaca: column with the task.")
    input: str = Field("input", description="Alpaca: column with the task's material; may be absent or empty.")
    output: str = Field("output", description="Alpaca: column with the answer.")
    system: str = Field("system", description="Alpaca, ShareGPT: column with a system prompt; may be absent.")


class Source(Settings):
    """One place documents come from."""

    path: RecipePath | None = Field(
        None,
        description="A file, a folder, or a glob such as manual/**/*.md. Not for python-docs, which knows its place.",
    )
    format: Format = Field(
        "auto",
        description="How to read the files. auto: by the suffix of each file. "
        "python-docs: the documentation of the running Python.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[^/\\\s][^/\\]*$",
        description="Name of the source in ids and in the card; default: that of the file or folder.",
    )
    licence: str | None = Field(
        None, description="Licence of the documents: an SPDX id or a phrase. Carried into every card."
    )
    include: list[str] = Field(
        default_factory=list, description="Only files whose path in the folder, or name, matches one of these globs."
    )
    exclude: list[str] = Field(
        default_factory=list, description="No files whose path in the folder, or name, matches one of these globs."
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field(
        "utf-8", description="Encoding of files that declare none themselves (byte order mark, HTML meta)."
    )
    layout: Layout = Field(
        "auto",
        description="What a JSONL or Parquet record is: text, OpenAI messages, ShareGPT conversations, or Alpaca; or "
        "strings: a document of all that is text in it, whatever the columns are called. auto: by its columns.",
    )
    columns: Columns = Field(
        default_factory=Columns, description="Which column of a JSONL or Parquet record holds what."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Source:
        if self.format == "python-docs":
            if self.path is not None:
                raise ValueError("python-docs reads the documentation of the running Python and takes no path")
        elif self.path is None:
            raise ValueError(f"a source of format '{self.format}' needs a path")
        if self.format not in ("auto", *RECORD_FORMATS):
            for name in ("columns", "layout"):
                field = type(self).model_fields[name]
                if getattr(self, name) == field.get_default(call_default_factory=True):
                    continue  # written out or not: a resolved recipe has every default
                raise ValueError(
                    f"'{name}' is for records ({', '.join(RECORD_FORMATS)}); format '{self.format}' has none"
                )
        return self


class DecontaminateSettings(Settings):
    """Evaluation texts that must not be trained on."""

    against: list[RecipePath] = Field(
        min_length=1,
        description="Files, folders or globs with evaluation texts, in any format that a source can have. Of records "
        "all that is text counts: question, choices, answer.",
    )
    words: int = Field(
        13,
        ge=6,
        le=100,
        description="So many words in a row, case and punctuation aside, that stand in a document and in an evaluation "
        "text are a hit. A shorter text is one when all of it stands there, if it has 6 words or more.",
    )
    action: Literal["drop", "cut", "report"] = Field(
        "drop",
        description="drop: leave the document out. cut: leave out the paragraphs with the hit (a conversation is "
        "dropped). report: keep all and say what was found.",
    )

    @property
    def sources(self) -> list[Source]:
        """The places of the texts, as sources to be read whole."""
        return [Source(path=path, layout="strings") for path in self.against]


class SplitSettings(Settings):
    """How much is held out. By characters, in whole groups of near-duplicates."""

    valid: float = Field(
        0.05, ge=0, le=0.4, description="Share of the characters held out to choose the best checkpoint."
    )
    test: float = Field(
        0.05, ge=0, le=0.4, description="Share of the characters held out for the scorecard; never trained on."
    )
    max_characters: int = Field(
        10_000_000, ge=1, description="Most characters in a held-out split, however large the corpus is."
    )


class CorpusSettings(Settings):
    """Everything `build_corpus` is told."""

    sources: list[Source] = Field(
        min_length=1, description="Where the documents come from; of duplicates the first stays."
    )
    min_characters: int = Field(
        100, ge=1, description="Shorter texts are dropped. Conversations are not measured by it."
    )
    on_error: Literal["skip", "fail"] = Field(
        "skip",
        description="What to do about a file or record that can not be read (empty, binary, wrongly encoded, damaged): "
        "name it, count it and go on, or stop.",
    )
    near_duplicates: float | None = Field(
        0.8,
        ge=0.4,
        le=1,
        description="Jaccard similarity of the sets of three-word sequences from which two documents count as copies; "
        "null: do not look.",
    )
    near_duplicate_action: Literal["drop", "keep"] = Field(
        "drop", description="Drop all but the first of near-duplicates, or keep them together on one side of the split."
    )
    decontaminate: DecontaminateSettings | None = Field(
        None, description="Evaluation texts to look for and leave out; default: none."
    )
    split: SplitSettings = Field(
        default_factory=SplitSettings, description="How much is held out for validation and test."
    )
    samples: int = Field(
        12,
        ge=0,
        description="How many kept and how many dropped documents to show in the report; 0 leaves all text out.",
    )
