"""What a person says about a corpus: where its documents are, and what to do with them. Imports nothing heavy."""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from llmtune.corpus.clean.settings import CleanSettings
from llmtune.corpus.filters.settings import FilterSettings
from llmtune.corpus.place_settings import UnpackSettings, checked_place, checked_storage
from llmtune.settings import RecipePath, RecipePlace, Settings

Format = Literal[
    "auto", "text", "markdown", "rst", "html", "man", "notebook", "code", "jsonl", "csv", "parquet",
    "pdf", "docx", "pptx", "epub", "python-docs",
]  # fmt: skip
Layout = Literal["auto", "text", "openai", "sharegpt", "alpaca", "strings"]

AUTO_ENCODING = "auto"

# Formats whose files hold records (rows) rather than one document.
RECORD_FORMATS = ("jsonl", "csv", "parquet")


def _known_encoding(name: str) -> str:
    if name == AUTO_ENCODING:
        return name
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
    document: str | None = Field(
        None,
        description="Column that says which document (conversation, page, user) a record is a part of: records of a "
        "source with the same value go into one split.",
    )
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

    path: Annotated[RecipePlace, AfterValidator(checked_place)] | None = Field(
        None,
        description="A file, a folder, or a glob such as manual/**/*.md, on this disk or at s3://, gs://, http(s)://, "
        "hf://datasets/. Archives are looked into. Not for python-docs, which knows its place.",
    )
    storage: Annotated[dict[str, Any], AfterValidator(checked_storage)] = Field(
        default_factory=dict,
        description="Options for the store of a URL, as its fsspec package takes them: {anon: true}. "
        "A secret is named by its environment variable: {secret: $MY_SECRET}.",
    )
    unpack: UnpackSettings = Field(
        default_factory=UnpackSettings, description="How far archives and compressed files are unpacked."
    )
    format: Format = Field(
        "auto",
        description="How to read the files. auto: by the suffix of each file, or by its first bytes. "
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
        AUTO_ENCODING,
        description="Encoding of files that declare none themselves (byte order mark, HTML meta). auto: UTF-8; a file "
        "that is not is read in the encoding it is detected to be in, where that is sure.",
    )
    layout: Layout = Field(
        "auto",
        description="What a JSONL, CSV or Parquet record is: text, OpenAI messages, ShareGPT conversations, or Alpaca; "
        "or strings: a document of all that is text in it, whatever the columns are called. auto: by its columns.",
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="What is between the cells of a CSV file; default: whichever of , ; | and tab the first row holds.",
    )
    columns: Columns = Field(
        default_factory=Columns, description="Which column of a JSONL, CSV or Parquet record holds what."
    )

    repeats: float = Field(
        1, ge=1, le=100, description="How often a training reads each document of this source in one epoch."
    )
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Part of the training text, in characters, that comes from this source: 0.1 of general text keeps "
        "a model from forgetting. The sources without a share make up the rest.",
    )
    max_characters: int | None = Field(
        None, ge=1, description="Most characters of this source to train on; which documents, a hash decides."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Source:
        if self.format == "python-docs":
            if self.path is not None:
                raise ValueError("python-docs reads the documentation of the running Python and takes no path")
        elif self.path is None:
            raise ValueError(f"a source of format '{self.format}' needs a path")
        if self.storage and not isinstance(self.path, str):
            raise ValueError("'storage' is for URLs; this source is on this disk")
        if self.format not in ("auto", *RECORD_FORMATS):
            for name in ("columns", "layout"):
                field = type(self).model_fields[name]
                if getattr(self, name) == field.get_default(call_default_factory=True):
                    continue  # written out or not: a resolved recipe has every default
                raise ValueError(
                    f"'{name}' is for records ({', '.join(RECORD_FORMATS)}); format '{self.format}' has none"
                )
        if self.share is not None and self.repeats != 1:
            raise ValueError("share and repeats do not go together: a share decides how often a source is read")
        if self.delimiter is not None and self.format not in ("auto", "csv"):
            raise ValueError(f"'delimiter' is for csv; format '{self.format}' has none")
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
        "text are a hit. A shorter text is one when all of it stands there, if it has 6 words or more. In scripts "
        "without spaces two characters count as a word.",
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
    earlier: RecipePath | None = Field(
        None,
        description="An earlier corpus, or the run that made it: its documents keep the split that they had there, "
        "whatever was added since.",
    )
    max_characters: int = Field(
        10_000_000, ge=1, description="Most characters in a held-out split, however large the corpus is."
    )


class CorpusSettings(Settings):
    """Everything `build_corpus` is told."""

    sources: list[Source] = Field(
        min_length=1, description="Where the documents come from; of duplicates the first stays."
    )
    clean: CleanSettings = Field(
        default_factory=CleanSettings,
        description="What is mended in the texts and taken out of them before they are judged and compared.",
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
    repeated_paragraphs: int | None = Field(
        None,
        ge=8,  # shorter ones are not compared (parts.py)
        description="Take paragraphs of this many words or more out of a document where an earlier one, of whatever "
        "source, has them word for word; a document of which less than `min_characters` are left is dropped. "
        "Conversations stay. null: do not look. Asks for near_duplicates.",
    )
    known: list[RecipePath] = Field(
        default_factory=list,
        description="Files, folders or globs with documents that are used elsewhere already, a corpus for example: "
        "what is a copy of one of them, by the same measure, is dropped.",
    )
    temperature: float | None = Field(
        None,
        ge=1,
        le=100,
        description="Make sources without a share more alike: a source of size n counts as n^(1/temperature). Small "
        "sources are read more often, at most 4 times an epoch.",
    )
    filters: FilterSettings = Field(
        default_factory=FilterSettings, description="Which documents to leave out by what their text is like."
    )
    decontaminate: DecontaminateSettings | None = Field(
        None, description="Evaluation texts to look for and leave out; default: none."
    )
    split: SplitSettings = Field(
        default_factory=SplitSettings, description="How much is held out for validation and test."
    )
    engine: Literal["native", "ray"] = Field(
        "native",
        description="Who reads and cleans: native: processes of this machine; ray: the Ray cluster that RAY_ADDRESS "
        "names, whose machines see the sources and the run folder at the same paths. The corpus is the same.",
    )
    workers: int | None = Field(
        None, ge=1, description="How many processes read and clean; default: one a core, or what the cluster has."
    )
    reuse: bool = Field(
        True,
        description="Keep what was read beside the artifacts, so that a corpus of more documents, or with other "
        "filters, reads only what is new.",
    )
    samples: int = Field(
        12,
        ge=0,
        description="How many kept and how many dropped documents to show in the report; 0 leaves all text out.",
    )

    @model_validator(mode="after")
    def _shares_leave_room(self) -> CorpusSettings:
        whole = sum(source.share or 0 for source in self.sources)
        if whole > 1.0001 or (whole > 0.9999 and any(source.share is None for source in self.sources)):
            raise ValueError(f"the shares of the sources come to {whole:.2f}; sources without a share need room too")
        return self

    @model_validator(mode="after")
    def _paragraphs_are_compared(self) -> CorpusSettings:
        if self.repeated_paragraphs is not None and self.near_duplicates is None:
            raise ValueError("repeated_paragraphs needs near_duplicates, which looks at the paragraphs")
        return self

    @property
    def known_sources(self) -> list[Source]:
        """The places of the known documents, as sources. Of a corpus only its documents, not what is said of them."""
        shards = ["train/*.parquet", "valid/*.parquet", "test/*.parquet"]
        return [Source(path=path, include=shards if (path / "card.json").is_file() else []) for path in self.known]
