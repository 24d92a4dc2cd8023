"""The settings of instruction pairs from documents."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from llmtune.settings import Settings

Rule = Literal["headings", "definitions", "code"]
RULES: tuple[Rule, ...] = ("headings", "definitions", "code")


class GenerateSettings(Settings):
    """Pairs written by a model behind an OpenAI-compatible endpoint."""

    url: str = Field(
        description="Where the endpoint is, up to the version: `http://localhost:8000/v1`. Passages of the documents "
        "are sent there.",
        pattern=r"^https?://[^@\s]+$",
    )
    model: str = Field(min_length=1, description="The model's name there.")
    key_variable: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*$",
        description="Name of the environment variable that holds the key; the key itself is in no file.",
    )
    passages_per_document: int = Field(
        4, ge=1, description="Most passages of a document that are sent, spread over it; a request each."
    )
    pairs_per_passage: int = Field(2, ge=1, le=10, description="Questions that are asked for, of each passage.")
    min_support: float = Field(
        0.8,
        ge=0,
        le=1,
        description="Share of an answer's content words that must stand in its passage; numbers and names all must.",
    )
    timeout: float = Field(120, gt=0, description="Seconds to wait for a reply.")
    retries: int = Field(5, ge=0, description="How often a request is sent again, each time after waiting longer.")
    parallel: int = Field(4, ge=1, le=256, description="Requests at a time.")
    on_error: Literal["skip", "fail"] = Field(
        "skip",
        description="What to do about a passage that the endpoint refuses, gives no reply to or replies rubbish to: "
        "name it, count it and go on, or stop. An endpoint that replies to nothing ends the stage either way.",
    )

    @field_validator("url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        if not (url.isascii() and url.isprintable()):
            raise ValueError("not plain ASCII: write letters of a host as `xn--…`, those of a path as `%C3%A4`")
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").encode("idna")  # which refuses an empty or overlong name between two dots
            known = bool(host) and parts.port != 0  # what is no port is refused as it is read
        except ValueError:
            known = False
        if not known:
            raise ValueError("no address: its host or port cannot be one")
        return url


class InstructSettings(Settings):
    """Everything `instruct` is told."""

    rules: tuple[Rule, ...] = Field(
        RULES,
        description="What pairs are made of. headings: a heading and the text below it; definitions: a name in a list "
        "or table and what is said of it; code: a code block and the words that lead into it or explain it.",
    )
    generate: GenerateSettings | None = Field(
        None, description="Have a model write pairs as well, or alone with `rules: []`."
    )
    subject: str | None = Field(
        None,
        min_length=1,
        max_length=80,
        description="What the documents are about, as it is put into the questions (`PostgreSQL`: 'In PostgreSQL, what "
        "…'). Without it, questions name the document's title more often.",
    )
    system: str | None = Field(None, min_length=1, description="A system prompt to begin each conversation with.")
    pairs_per_document: int = Field(
        12, ge=1, description="Most pairs of one document: the rules in turn, those of each in the order of a hash."
    )
    min_answer: int = Field(40, ge=1, description="Characters that an answer must have.")
    max_answer: int = Field(
        1200, ge=40, description="Characters that an answer may have; that of a heading ends with a whole paragraph."
    )
    keep_documents: bool = Field(
        True, description="Whether the documents stay in the corpus beside the pairs; false: it is the pairs alone."
    )
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the characters of an epoch of training that are to be pairs. Where they are more, some "
        "are left out; where they are fewer, they are read up to four times. Default: each as often as its document.",
    )
    samples: int = Field(
        12, ge=0, description="How many pairs, kept and dropped, to show in the report; 0 leaves all text out."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_answer >= self.max_answer:
            raise ValueError(f"min_answer ({self.min_answer}) must be below max_answer ({self.max_answer})")
        if self.share is not None and not self.keep_documents:
            raise ValueError("share is the pairs' part beside the documents; with keep_documents: false it is all")
        if not self.rules and self.generate is None:
            raise ValueError("nothing to make pairs by: name `rules`, or `generate`")
        if len(set(self.rules)) < len(self.rules):
            raise ValueError("rules names one twice")
        return self
