"""llama.cpp as a runtime: tokenize, predict, chat and measure speed with a GGUF file.

The model runs in a process of its own (wheel `xllamacpp`, which carries llama.cpp and its server) and is asked over
the loopback, so that a crash of native code ends in an error here and not in the end of this process.
"""

from __future__ import annotations

import http.client
import json
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlparse

from llmtune.errors import BadArtifact
from llmtune.export.process import JobFailed, job_process, last_words, wait_for
from llmtune.extras import have, missing
from llmtune.files import read_json
from llmtune.machine import cpu_threads, high_water_mark
from llmtune.models.gguf_header import read_gguf_header
from llmtune.monitor import Monitor


class LlamaRuntime:
    """One GGUF file loaded in llama.cpp; use as a context manager.

    gguf:    path of the file
    context: tokens that a prompt and its answer may have together
    exact:   keys and values in float32 and no flash attention, for comparing numbers; slower, on the CPU only
    timeout: seconds that loading, or one answer, may take

    Raises MissingExtra without xllamacpp, BadArtifact when llama.cpp cannot load the file, and JobFailed when its
    process crashes or takes too long.
    """

    def __init__(
        self,
        gguf: Path,
        context: int = 2048,
        *,
        exact: bool = False,
        timeout: float = 300,
        monitor: Monitor | None = None,
    ) -> None:
        if not have("xllamacpp"):
            raise missing("xllamacpp", "running a GGUF file")
        if not gguf.is_file():
            raise BadArtifact("no such GGUF file", where=str(gguf))
        self.has_template: bool = "tokenizer.chat_template" in read_gguf_header(gguf).metadata
        """Whether the file has a chat template of its own. llama.cpp would take ChatML where it has none, a form that a
        model without a template was never trained on."""
        self._key = secrets.token_hex(16)
        self._timeout = timeout
        self._plain: int | None = None
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="llmtune-llama-")))
        ready = self._folder / "ready.json"
        job = {
            "gguf": str(gguf.resolve()),
            "context": context,
            "threads": cpu_threads(),
            "exact": exact,
            "key": self._key,
            "result": str(ready),
        }
        try:
            self._process: Popen[bytes] = self._stack.enter_context(job_process("llama_server", job, self._folder))
            wait_for(self._process, self._folder, "llama.cpp", timeout, monitor or Monitor(), ready=ready)
        except JobFailed as error:
            self._stack.close()
            raise BadArtifact(
                f"llama.cpp cannot load this GGUF file: {error.what}", where=gguf.name, fix=error.fix
            ) from error
        except BaseException:
            self._stack.close()
            raise
        started = read_json(ready)
        self.version: str = started["version"]
        """Version of the xllamacpp wheel."""
        where = urlparse(started["address"])
        self._connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End llama.cpp's process."""
        self._connection.close()
        self._stack.close()

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids of a text; the names of special tokens in it become those tokens. add_special: with the tokens
        that the model puts around a text (begin)."""
        answer = self._post("/tokenize", {"content": text, "add_special": add_special, "parse_special": True})
        return [int(token) for token in answer["tokens"]]

    def apply_template(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation as llama.cpp renders it with the file's own chat template, up to where the answer begins; of a
        file without one, the text of the last message, which is continued."""
        if not self.has_template:
            return messages[-1]["content"]
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def next_token_top(self, tokens: Sequence[int], k: int) -> list[tuple[int, float]]:
        """The k likeliest next tokens after `tokens` with their natural log-probabilities over the whole vocabulary,
        likeliest first. Prompts that continue the one before are cheap (their common part is kept)."""
        if self._plain is None:
            self._plain = self.tokenize("a")[-1]
        request = {
            "prompt": list(tokens),
            "n_predict": 1,
            "n_probs": k,
            "cache_prompt": True,
            "temperature": 0,
            "post_sampling_probs": False,
            # The server holds the figures back while its answer ends in half a character, or is the end token. Which
            # token it picks does not touch the figures, taken before the bias, so it is made to pick a plain letter.
            "logit_bias": [[self._plain, 1e6]],
        }
        found = self._post("/completion", request)["completion_probabilities"][0]["top_logprobs"]
        return [(int(one["id"]), float(one["logprob"])) for one in found]

    def stream(
        self, messages: Sequence[dict[str, str]], max_tokens: int, temperature: float, seed: int
    ) -> Iterator[str]:
        """Pieces of the answer to a conversation (without a chat template: of what continues its last message), as they
        come. temperature 0: the likeliest token each time."""
        request = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "stream": True}
        if self.has_template:
            response = self._request(
                "/v1/chat/completions", request | {"messages": list(messages), "reasoning_format": "none"}
            )
        else:
            response = self._request("/v1/completions", request | {"prompt": self.apply_template(messages)})
        try:
            for line in response:
                data = line.decode("utf-8").strip().removeprefix("data: ")
                if not data or data == "[DONE]":
                    continue
                event = json.loads(data)
                if "error" in event:
                    raise JobFailed(f"llama.cpp stopped its answer: {event['error'].get('message', event['error'])}")
                for choice in event.get("choices", ()):
                    piece = choice.get("delta", {}).get("content") if self.has_template else choice.get("text")
                    if piece:
                        yield piece
        finally:
            self._connection.close()  # whatever is left of an answer that nobody reads on

    def speed(self, prompt_tokens: int, new_tokens: int) -> tuple[float, float]:
        """(prefill, decode) in tokens a second: a prompt of so many tokens, then so many generated ones."""
        text = "The quick brown fox jumps over the lazy dog and runs on. "
        words = self.tokenize(text)
        prompt = (words * (prompt_tokens // len(words) + 1))[:prompt_tokens]
        request = {
            "prompt": prompt,
            "n_predict": new_tokens,
            "ignore_eos": True,
            "cache_prompt": False,
            "temperature": 0,
        }
        timings = self._post("/completion", request)["timings"]
        return float(timings["prompt_per_second"]), float(timings["predicted_per_second"])

    def peak_memory(self) -> int:
        """Largest resident size of llama.cpp's process so far, in bytes."""
        import psutil

        mark = high_water_mark(self._process.pid)
        return int(psutil.Process(self._process.pid).memory_info().rss) if mark is None else mark

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return json.loads(self._request(path, body).read())

    def _request(self, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        try:
            self._connection.request("POST", path, json.dumps(body), headers)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._broken(path, error) from error
        if response.status != 200:
            text = response.read().decode("utf-8", errors="replace")
            raise JobFailed(f"llama.cpp refused {path} (status {response.status}): {text[:500]}")
        return response

    def _broken(self, path: str, error: Exception) -> JobFailed:
        code = self._process.poll()
        how = f"took more than {self._timeout:.0f} seconds for" if isinstance(error, TimeoutError) else "broke off at"
        if code is not None:
            how = f"crashed (exit code {code}) at"
        return JobFailed(f"llama.cpp {how} {path}", fix=last_words(self._folder))
