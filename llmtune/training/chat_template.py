"""Conversations as tokens, with the assistant's answers as the only targets.

The tokenizer's own chat template renders a conversation; what is trained is each answer from where generation would
start to the token that ends the turn, that token included: a model that never sees its end token as a target never
stops. Templates with `{% generation %}` marks say themselves where answers are; in others each answer is found between
the rendering of the messages before it (with the generation prompt) and its end token.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from llmtune.corpus.store import Document, Message
from llmtune.errors import LlmtuneError

GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Some templates write today's date; training data must not depend on the day it was made. Llama 3.1's own default.
TODAY = datetime.date(2024, 7, 26)
PROBE = (Message("user", "PROBE-QUESTION"), Message("assistant", "PROBE-ANSWER"))


@dataclass(frozen=True)
class Rendered:
    """A conversation as text. answers: (start, end) in characters of each answer, its end token included."""

    text: str
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Conversation:
    """A conversation as tokens. answers: (n,) bool, which are targets; ends: (n,) where each ends in characters of
    `text`, never going back (of an end token that the template does not write, with the token before it)."""

    text: str
    tokens: list[int]
    answers: np.ndarray
    ends: np.ndarray


def tokenize_conversations(
    documents: list[Document], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[list[int], np.ndarray]]:
    """Ids and targets (bool, same length) of each conversation; empty where it has no answer. What follows the last
    answer is left out. Raises LlmtuneError naming the document."""
    return [(one.tokens, one.answers) for one in encode_conversations(documents, tokenizer)]


def encode_conversations(documents: list[Document], tokenizer: PreTrainedTokenizerBase) -> list[Conversation]:
    """As `tokenize_conversations`, with the text that each token stands for."""
    if not documents:
        return []
    _check_able(tokenizer, documents[0])
    ending = end_of_turn(tokenizer)
    rendered = [render_conversation(document, tokenizer, ending) for document in documents]
    encoded = tokenizer(
        [one.text for one in rendered], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return [
        _with_targets(one, ids, np.array(offsets).reshape(-1, 2), None if ending else tokenizer.eos_token_id)
        for one, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The special token that the chat template puts behind an answer, for example `<|im_end|>`; None when it puts none
    (then the tokenizer's end token is added behind a conversation's last answer)."""
    answer = PROBE[1].content
    text = render(tokenizer, PROBE, "the chat template")
    match = re.search(rf"{answer}\s*({_special_tokens(tokenizer)})", text)
    return match[1] if match else None


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], where: str, prompt: bool = False) -> str:
    """Text of a conversation by the tokenizer's template, with the opening of an answer behind it if `prompt`.
    Raises LlmtuneError when the template refuses it."""
    return _render(tokenizer, messages, where, prompt, marks=False)[0]


def render_conversation(document: Document, tokenizer: PreTrainedTokenizerBase, ending: str | None) -> Rendered:
    """The conversation up to its last answer, and where its answers are. `ending`: `end_of_turn` of the tokenizer."""
    messages = list(document.messages or ())
    while messages and messages[-1].role != "assistant":
        messages.pop()
    if not messages:
        return Rendered("", ())
    where = f"document {document.id}"
    if GENERATION_MARK.search(tokenizer.get_chat_template()):
        text, marked = _render(tokenizer, messages, where, prompt=False, marks=True)
        return Rendered(text, tuple((start, _end_behind(text, end, ending)) for start, end in marked))
    text = render(tokenizer, messages, where)
    answers: list[tuple[int, int]] = []
    for place, message in enumerate(messages):
        if message.role == "assistant":
            start = _start_of_answer(messages[: place + 1], text, tokenizer, where)
            if answers and start < answers[-1][1]:
                raise _unstable(where, place)
            answers.append((start, _end_of_answer(text, start, message, ending, where)))
    return Rendered(text, tuple(answers))


def _start_of_answer(messages: list[Message], text: str, tokenizer: PreTrainedTokenizerBase, where: str) -> int:
    """Where the last of `messages` starts in the rendered `text`: behind what a model is given when it is to answer."""
    before, answer = messages[:-1], messages[-1].content.strip()
    if not before:
        return max(text.find(answer), 0)
    prompted = render(tokenizer, before, where, prompt=True)
    if text.startswith(prompted):
        return len(prompted)
    # Reasoning templates open an answer with a mark ("<think>") that they leave out of finished conversations.
    plain = render(tokenizer, before, where)
    found = text.find(answer, len(plain)) if text.startswith(plain) else -1
    if found < 0:
        raise _unstable(where, len(before))
    return found


def _end_of_answer(text: str, start: int, message: Message, ending: str | None, where: str) -> int:
    answer = message.content.strip()
    found = text.find(answer, start)
    if found >= 0:
        return _end_behind(text, found + len(answer), ending)
    # Not written as it stands (reasoning taken out of earlier turns): all up to the end of the turn.
    found = text.find(ending, start) if ending else -1
    if found < 0:
        raise LlmtuneError(
            "an answer of this conversation is not found in what the chat template makes of it",
            where=where,
            fix="mark the answers in the template with {% generation %} … {% endgeneration %}",
        )
    return found + len(ending or "")


def _end_behind(text: str, end: int, ending: str | None) -> int:
    """`end` moved behind the end token (and the blanks before it), where that follows or was included."""
    if ending is None:
        return end
    blanks = re.compile(r"\s*")
    stripped = len(text[:end].rstrip())
    if text.endswith(ending, 0, stripped):
        return stripped
    follows = blanks.match(text, end)
    behind = follows.end() if follows else end
    return behind + len(ending) if text.startswith(ending, behind) else end


def _with_targets(rendered: Rendered, ids: list[int], offsets: np.ndarray, append: int | None) -> Conversation:
    """Tokens and targets of a conversation: those that lie whole in an answer. offsets: (n, 2) characters.
    append: an end token to put behind the last answer."""
    trained = np.zeros(len(ids), bool)
    for start, end in rendered.answers:
        trained |= (offsets[:, 0] >= start) & (offsets[:, 1] <= end) & (offsets[:, 0] < end)
    if not trained.any():
        return Conversation(rendered.text, [], np.zeros(0, bool), np.zeros(0, int))
    length = int(np.flatnonzero(trained)[-1]) + 1
    ids, trained, ends = ids[:length], trained[:length], np.maximum.accumulate(offsets[:length, 1])
    if append is not None and ids[-1] != append:
        ids, trained, ends = [*ids, append], np.append(trained, True), np.append(ends, ends[-1])
    return Conversation(rendered.text, ids, trained, ends)


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], where: str, prompt: bool, marks: bool
) -> tuple[str, list[tuple[int, int]]]:
    """Text, and the (start, end) characters of what `{% generation %}` marks where `marks`."""
    try:
        texts, marked = render_jinja_template(
            [[vars(message) for message in messages]],
            chat_template=tokenizer.get_chat_template(),
            add_generation_prompt=prompt,
            return_assistant_tokens_mask=marks,
            strftime_now=TODAY.strftime,
            date_string=TODAY.strftime("%d %b %Y"),
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        roles = ", ".join(message.role for message in messages)
        raise LlmtuneError(
            f"the model's chat template refuses this conversation ({roles}): {error}",
            where=where,
            fix="change the roles or their order, or leave the conversation out",
        ) from error
    return texts[0], marked[0] if marks else []


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> str:
    """A regular expression of every special token, longest first; one that never matches when there is none."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    names = sorted(added | set(tokenizer.all_special_tokens), key=lambda name: (-len(name), name))
    return "|".join(map(re.escape, names)) or r"(?!)"


def _unstable(where: str, place: int) -> LlmtuneError:
    return LlmtuneError(
        f"the model's chat template writes the messages before message {place + 1} differently once the conversation "
        "goes on, so its answers cannot be told from the rest",
        where=where,
        fix="mark the answers in the template with {% generation %} … {% endgeneration %}, or split the conversation "
        "into single turns",
    )


def _check_able(tokenizer: PreTrainedTokenizerBase, document: Document) -> None:
    if not tokenizer.chat_template:
        raise LlmtuneError(
            "the corpus holds conversations, but the model's tokenizer has no chat template",
            where=f"document {document.id}",
            fix="start from an instruct model, or put a chat_template.jinja beside the model's tokenizer",
        )
    if not tokenizer.is_fast:
        raise LlmtuneError(
            f"answers can be found only with a fast tokenizer; {type(tokenizer).__name__} is a slow one",
            where=f"document {document.id}",
            fix="save the model's tokenizer as tokenizer.json, which transformers loads as a fast one",
        )
