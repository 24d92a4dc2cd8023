"""The recipe's `evaluate:` block: how every model that the stages make is scored. Imports no torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from llmtune.files import content_fingerprint
from llmtune.settings import RecipePath, Settings

# A modest CPU: tokens a second × 2 × parameters. Only bounds how much is measured, the same on every machine.
REFERENCE_FLOPS = 1.5e11
DOMAIN_SHARE, GENERAL_SHARE, QUESTIONS_SHARE = 0.35, 0.15, 0.2  # of the time, at most; knowledge has what is left
CHOICES = 4  # of a question that we make
QUESTION_TOKENS = 220  # of one question made from held-out text: a passage, four continuations of it, padding
KNOWLEDGE_TOKENS = 145  # of one knowledge question: its title, names and descriptions, once for each choice


class EvaluateSettings(Settings):
    """What is measured of each model, on the same held-out text for all models of a run."""

    minutes: float = Field(
        5,
        gt=0,
        description="Time for one model's scores. More text than a modest CPU reads in it with the base model is left "
        "out; the scores say how much was used. Nothing is cut off by the clock, so that the same recipe measures the "
        "same text. Your own questions are all asked.",
    )
    split: Literal["test", "valid"] = Field("test", description="Held-out split of the corpus to measure on.")
    tokens: int = Field(10_000, ge=0, description="Held-out tokens (of about 4 characters) for perplexity; 0: none.")
    row_tokens: int = Field(512, ge=16, description="Longest context of a token in the perplexity.")
    general: Literal["licences"] | RecipePath | None = Field(
        "licences",
        description="Text that is not the domain, to measure forgetting: the licence texts of installed packages, or a "
        "file or folder of yours; null: none.",
    )
    general_tokens: int = Field(5_000, ge=1, description="Tokens of the general text.")
    questions: int = Field(
        60,
        ge=0,
        description="Which-of-four questions made from held-out documents: the true continuation of a passage, among "
        "three others of the same document; 0: none.",
    )
    knowledge: int = Field(
        300,
        ge=0,
        description="Which-of-four questions about what the training documents define in lists, in tables and under "
        "headings: the name that a description belongs to, or the description that a name has; 0: none. They have the "
        "time that the other parts leave.",
    )
    own_questions: RecipePath | None = Field(
        None,
        description="Your own questions, a JSON-lines file: {question, choices, answer} (answer: the right choice, or "
        "its number from 0), {question, answer} (the reply must contain the answer), or {prompt, answer} (what the "
        "model continues the prompt with must contain it).",
    )
    speed: bool = Field(True, description="Measure prefill and decode speed.")

    def affordable_tokens(self, share: float, parameters: int) -> int:
        """Tokens that a modest CPU reads with a model of so many parameters in this share of the time."""
        return int(share * self.minutes * 60 * REFERENCE_FLOPS / (2 * parameters))

    def affordable_knowledge(self, parameters: int) -> int:
        """Knowledge questions that there is time for when the other parts have had theirs."""
        taken = [(DOMAIN_SHARE, self.tokens), (QUESTIONS_SHARE, QUESTION_TOKENS * self.questions)]
        if self.general is not None:
            taken.append((GENERAL_SHARE, self.general_tokens))
        others = sum(min(self.affordable_tokens(share, parameters), tokens) for share, tokens in taken)
        return (self.affordable_tokens(1, parameters) - others) // KNOWLEDGE_TOKENS

    def identity(self) -> dict[str, Any]:
        """The settings with what they name replaced by its contents: other licences give other scores too."""
        value = self.model_dump(mode="json")
        for name in ("general", "own_questions"):
            path = getattr(self, name)
            if isinstance(path, Path):
                value[name] = content_fingerprint([path])
        if self.general == "licences":
            value["general"] = _fingerprint_of_licences(self.general_tokens)
        return value


@cache
def _fingerprint_of_licences(tokens: int) -> str:
    from llmtune.evaluate.passages import general_documents, text_fingerprint

    return text_fingerprint(document.text or "" for document in general_documents("licences", tokens))
