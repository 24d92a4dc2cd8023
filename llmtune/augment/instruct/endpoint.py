"""A chat endpoint as OpenAI, vLLM, llama.cpp and others have it: one request, sent again where that may help."""

from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from typing import Any

from llmtune.augment.instruct.settings import GenerateSettings
from llmtune.errors import LlmtuneError
from llmtune.words import printable, visible

_LONGEST_WAIT = 60.0  # seconds between two tries
_AGAIN = {408, 409, 425, 429, *range(500, 600)} - {501, 505}  # statuses that may pass
_REFUSES_ONE = {400, 413, 422}  # those that may be about this one passage
_WANTS_KEY = {401, 403}
_MOST_BYTES = 4 << 20  # of a reply
_SHOWN = 100  # characters of what an endpoint gave
_ENDED = {"length", "content_filter"}  # why a completion may have no content
_SEE_WHY = "check `model`, that its context holds 1,000 tokens, and what the endpoint's log says"
_GOES_ON = "run the same command again: what it has written already is kept"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer as any other: followed, it would take the key and the passage to another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


class NoReply(LlmtuneError):
    """There is no reply to a request; whether that is the endpoint's fault or that of the request, others tell."""


class Refused(NoReply):
    """It will not speak of it, by its status or by a completion without a word."""


class Unanswered(NoReply):
    """It could not be reached, or gave no chat completion, after all tries."""


class Endpoint:
    """Asks the model; safe to be used by several threads."""

    def __init__(self, settings: GenerateSettings) -> None:
        self._settings = settings
        self._key = key_of(settings)
        self._stopped = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._url = settings.url.rstrip("/") + "/chat/completions"

    def ask(self, system: str, user: str, seed: int) -> str:
        """What the model says. Raises NoReply where there is none to this request, other LlmtuneErrors where there
        would be none to any."""
        body = {
            "model": self._settings.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "temperature": 0,
            "seed": seed,
        }
        kind: type[NoReply]
        for number in range(self._settings.retries + 1):
            wait, kind = min(2.0**number, _LONGEST_WAIT), Unanswered
            try:
                reply = self._send(json.dumps(body).encode())
                said = content_of(reply) if len(reply) < _MOST_BYTES else None
                if said is not None:
                    return said
                kind, trouble = Refused, "gives a completion without a word, and does not say why"
                fix = _SEE_WHY
            except NoCompletion:
                trouble = f"gives no chat completion: {self._shown(reply.decode(errors='replace')) or 'nothing'}"
                fix = f"see that `url` leads to the model and not to a page or a proxy before it, and {_GOES_ON}"
            except urllib.error.HTTPError as error:
                trouble = f"answers {error.code}: {self._shown(error.reason)}".removesuffix(": ")
                if error.code in _REFUSES_ONE:
                    raise self._failed(trouble, _SEE_WHY, Refused) from None
                if error.code not in _AGAIN:
                    raise self._failed(trouble, self._to_check(error.code)) from None
                fix = f"see what ails it (its log, its limits), and {_GOES_ON}"
                wait = _asked_to_wait(error.headers.get("Retry-After"), wait)
            except http.client.IncompleteRead as error:
                trouble = f"breaks its reply off after {len(error.partial):,} bytes"
                fix = f"see what ails it or a proxy before it, and {_GOES_ON}"
            except (OSError, http.client.HTTPException) as error:
                reason = self._shown(str(getattr(error, "reason", error)))
                trouble = f"does not answer: {reason or type(error).__name__}"
                fix = f"see that it runs and answers within `timeout`, and {_GOES_ON}"
            if number == self._settings.retries:
                break
            if self._stopped.wait(wait):  # nothing is known of this passage, so it is asked about by the next run
                raise self._failed("was not asked again: the run stops", _GOES_ON)
        raise self._failed(f"{trouble} (after {number + 1} {'tries' if number else 'try'})", fix, kind)

    def stop(self) -> None:
        """Send nothing again: those that wait for another try give up."""
        self._stopped.set()

    def _send(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 (the settings allow http and https)
        with self._opener.open(request, timeout=self._settings.timeout) as reply:
            read = bytes(reply.read(_MOST_BYTES))
            if reply.length and len(read) < _MOST_BYTES:  # bytes that were promised; `read` says nothing of them
                raise http.client.IncompleteRead(read, reply.length)
            return read

    def _shown(self, said: str) -> str:
        """The beginning, as a message can show it: without the key, should that have come back."""
        hidden = said.replace(self._key, "[key]") if self._key else said
        return visible(hidden.strip()[:_SHOWN])

    def _to_check(self, status: int) -> str:
        if status not in _WANTS_KEY:
            return "check `url` and `model`"
        if self._settings.key_variable is None:
            return "name the environment variable that holds its key: `key_variable`"
        return f"check the key in {self._settings.key_variable} (`key_variable`)"

    def _failed(self, trouble: str, fix: str, kind: type[LlmtuneError] = LlmtuneError) -> LlmtuneError:
        return kind(f"the endpoint {trouble}", where=self._url, fix=fix)


class NoCompletion(ValueError):
    """What an endpoint gave is no chat completion."""


def content_of(reply: bytes) -> str | None:
    """What is said in a chat completion, as UTF-8 can hold it; None where it holds no word and does not tell why, or
    offers no choice (what gateways make of a passage that a model's keepers block). Raises NoCompletion.

    Nothing may be said, by an empty text, or by none where the completion tells why: it was refused, or cut before the
    model had done with thinking."""
    try:
        completion: Any = json.loads(reply)
        if completion["choices"] in ([], None) and not completion.get("error"):
            return None
        choice = completion["choices"][0]
        message = choice.get("message") or {}
        content = message.get("content")
        if isinstance(content, list):  # of parts; what is thought or drawn is not said
            content = "".join(part["text"] for part in content if part["type"] == "text")
        if content is None:
            thought = message.get("reasoning_content") or message.get("reasoning")
            content = message.get("refusal") or ("" if thought or choice.get("finish_reason") in _ENDED else None)
        return printable(content) if isinstance(content, str) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NoCompletion from error


def key_of(settings: GenerateSettings) -> str | None:
    """The key; raises LlmtuneError when its variable is not set."""
    if settings.key_variable is None:
        return None
    key = os.environ.get(settings.key_variable, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        raise LlmtuneError(
            f"the environment variable {settings.key_variable} {'holds no key' if key else 'is not set'}",
            where="instruct.generate.key_variable",
            fix="set it to the endpoint's key, in the shell that starts the run",
        )
    return key


def _asked_to_wait(header: str | None, otherwise: float) -> float:
    """Seconds, as the server asks for them."""
    try:
        return min(max(float(header or ""), 0.0), _LONGEST_WAIT)
    except ValueError:
        return otherwise
