"""What becomes of a document that was read: cleaned, and kept, or left out with the reason."""

from __future__ import annotations

from llmtune.corpus.clean.changes import EVALUATION
from llmtune.corpus.clean.source import messages_of
from llmtune.corpus.contamination import EvaluationTexts
from llmtune.corpus.drops import CONTAMINATED, NO_TEXT, TOO_SHORT
from llmtune.corpus.duplicates import group_together
from llmtune.corpus.filters import filters_of
from llmtune.corpus.filters.features import View
from llmtune.corpus.intake import Intake
from llmtune.corpus.readers.reader import PROBLEMS, RawDocument, Rejected
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.store import Document
from llmtune.corpus.text import content_hash, plain_text
from llmtune.errors import LlmtuneError
from llmtune.words import printable, visible


def reject(settings: CorpusSettings, rejected: Rejected, id: str, place: str, intake: Intake) -> None:
    """Put down what cannot be read. place: what a person knows it by. Raises LlmtuneError where the recipe says
    `on_error: fail`."""
    if settings.on_error == "fail" and rejected.reason in PROBLEMS:
        raise LlmtuneError(
            visible(f"{rejected.reason}: {rejected.detail}"),
            where=visible(place),
            fix="repair or exclude it, or set `on_error: skip` to go on without it",
        )
    intake.drops.add(id, rejected.reason, rejected.detail)


class Judge:
    """Made once a corpus: what it looks with has tables to load. evaluation: texts that must not be trained on."""

    def __init__(self, settings: CorpusSettings, evaluation: EvaluationTexts | None = None) -> None:
        self.settings = settings
        self._evaluation = evaluation
        self._filters = filters_of(settings.filters, settings.sources)

    def __call__(self, raw: RawDocument, id: str, source: Source, intake: Intake) -> Document | None:
        """The document to keep, or None; `intake` is told of everything."""
        settings = self.settings
        text, messages, changes = raw.text, messages_of(raw), raw.changes
        plain = plain_text(text, messages)
        intake.characters += len(plain)
        if not plain.strip():
            intake.drops.add(id, NO_TEXT, "nothing is left after clean-up")
            return None
        if self._evaluation is not None and (found := self._found(id, plain, intake)):
            action = settings.decontaminate.action if settings.decontaminate else "drop"
            if action == "drop" or (action == "cut" and text is None):
                intake.drops.add(id, CONTAMINATED, found, plain)
                return None
            if action == "cut" and text is not None:
                before, text = text, self._evaluation.cut(text)
                gone = len(before) - len(text)
                changes = (*changes, (EVALUATION, gone))
                intake.changes.add(id, EVALUATION, gone, before, text, str)
        if text is not None and len(text) < settings.min_characters:
            intake.drops.add(id, TOO_SHORT, f"{len(text)} characters, {settings.min_characters} asked for", text)
            return None
        licence = raw.licence or source.licence
        licence = printable(licence) if licence else None
        of_prose = text is not None and raw.format != "code"
        view = View(id, intake.name, licence or "", plain_text(text, messages), of_prose)
        for filter in self._filters:
            if (detail := filter.judge(view)) is not None:
                intake.drops.add(id, filter.reason, detail, view.text)
                return None
        sha256 = content_hash(text, messages)
        group = group_together(intake.name, raw.group) if raw.group else ""
        return Document(id, text, messages, intake.name, licence, sha256, group, changes=changes)

    def _found(self, id: str, plain: str, intake: Intake) -> str:
        """The evaluation texts in a document as a detail, "" for none; all of them are put down in `intake`."""
        assert self._evaluation is not None
        hits = self._evaluation.hits(plain)
        for hit in hits:
            words = {"words": hit.words} if self.settings.samples else {}  # 0: no text leaves the corpus
            intake.contaminated.append({"document": id, "evaluation_text": hit.text, **words})
        more = f" and {len(hits) - 1} more" if len(hits) > 1 else ""
        return f"{hits[0].text}{more}" if hits else ""
