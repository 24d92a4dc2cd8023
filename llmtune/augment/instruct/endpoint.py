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
from llmtune.corpus.text import printable
from llmtune.errors import LlmtuneError

_LONGEST_WAIT = 60.0  # seconds between two tries
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses that may pass
_REFUSES_ONE = {400, 413, 422}  # those that may be about this one passage
_MOST_BYTES = 4 << 20  # of a reply


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer as any other: followed, it would take the key and the passage to another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Endpoint:
    """Asks the model; safe to be used by several threads."""

    def __init__(self, settings: GenerateSettings) -> None:
        self._settings = settings
        self._key = key_of(settings)
        self._stopped = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._url = settings.url.rstrip("/") + "/chat/completions"

    def ask(self, system: str, user: str, seed: int) -> str | None:
        """What the model says; None where the endpoint refuses this request.

        Raises LlmtuneError when it cannot be reached after all retries, or refuses every request."""
        body = {
            "model": self._settings.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "temperature": 0,
            "seed": seed,
        }
        trouble = ""
        for number in range(self._settings.retries + 1):
            wait = min(2.0**number, _LONGEST_WAIT)
            try:
                return self._content(self._send(json.dumps(body).encode()))
            except urllib.error.HTTPError as error:
                trouble = f"it answers {error.code} {error.reason}"
                if error.code in _REFUSES_ONE:
                    return None
                if error.code not in _AGAIN:
                    raise self._failed(trouble, "check `url`, `model` and `key_variable`") from None
                wait = _asked_to_wait(error.headers.get("Retry-After"), wait)
            except (OSError, http.client.HTTPException) as error:
                trouble = str(getattr(error, "reason", error)) or type(error).__name__
            if number == self._settings.retries or self._stopped.wait(wait):
                break
        raise self._failed(
            f"{trouble} ({self._settings.retries + 1} tries)",
            "start it, and run the same command again: what it has written already is kept",
        )

    def stop(self) -> None:
        """Send nothing again: those that wait for another try give up."""
        self._stopped.set()

    def _send(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 (the settings allow http and https)
        with self._opener.open(request, timeout=self._settings.timeout) as reply:
            return bytes(reply.read(_MOST_BYTES))

    def _content(self, reply: bytes) -> str:
        """The text in a reply; empty where it is none of this kind, which the form that is asked for then tells."""
        try:
            value: Any = json.loads(reply)
            content = value["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            return ""
        return printable(content) if isinstance(content, str) else ""  # what is kept of it must be UTF-8

    def _failed(self, trouble: str, fix: str) -> LlmtuneError:
        return LlmtuneError(f"the endpoint does not answer: {trouble}", where=self._url, fix=fix)


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
