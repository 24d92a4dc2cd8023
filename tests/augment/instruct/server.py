"""A server in the place of a model's, that answers as a test wants it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret"
FACTS = (
    "The buffer pool of storage engine {0} holds {1} pages, and the oldest page that nobody reads is written back to "
    "disk first. A checkpoint of engine {0} writes all changed pages within {1} seconds, so a crash loses nothing. "
    "After a crash the log is read from the last checkpoint on, and every change that it has is made again in the "
    "order in which it was made before."
)


def facts(number: int) -> str:
    return f"# Engine {number}\n\n## Pages\n\n{FACTS.format(number, 100 + number)}"


class Server:
    """Answers as `say` does: (status, text of the reply). asked: the requests about engines, in order; with
    `of_all` all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: set[str | None] = set()
        self.paths: set[str] = set()
        self.bodies: list[dict[str, Any]] = []
        self.most_at_a_time = self._at_a_time = 0
        self.say: Callable[[str, int], tuple[int, str]] = lambda passage, _: (200, pairs_about(passage))
        self.location = ""  # that it redirects to
        self.seconds = 0.0  # that each request takes
        self.of_all = False  # whether `say` is asked for the held-out documents too
        self.bare = False  # whether the text is all that it replies, and no JSON around it
        self.promised = 0  # bytes of a reply that its head speaks of; 0: it does not say
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.add(self.path)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.keys.add(self.headers.get("Authorization"))
                outer.paths.add(self.path)
                outer.bodies.append(body)
                outer.most_at_a_time = max(outer.most_at_a_time, outer._at_a_time + 1)
                passage = body["messages"][-1]["content"]
                status, text = 200, "[]"  # about the held-out documents
                if "# Engine" in passage or outer.of_all:
                    outer.asked.append(passage)
                    outer._at_a_time += 1
                    time.sleep(outer.seconds)
                    status, text = outer.say(passage, outer.asked.count(passage))
                    outer._at_a_time -= 1
                message = {"role": "assistant", "content": text}
                reply = (text if outer.bare else json.dumps({"choices": [{"message": message}]})).encode()
                with suppress(OSError):  # who asked may have gone
                    self.send_response(status)
                    self.send_header("Location", outer.location)
                    if outer.promised:
                        self.send_header("Content-Length", str(outer.promised))
                    self.end_headers()
                    self.wfile.write(reply)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def number_in(passage: str) -> int:
    return int(passage.split("# Engine ")[1].split("\n")[0])


def pairs_about(passage: str) -> str:
    """One that the passage says, and one with a number of its own."""
    number = number_in(passage)
    return json.dumps(
        [
            {"question": f"How many pages does the buffer pool of engine {number} hold?",
             "answer": f"The buffer pool of storage engine {number} holds {100 + number} pages."},
            {"question": f"How often does engine {number} write a checkpoint?",
             "answer": f"A checkpoint of engine {number} writes all changed pages every 7777 seconds."},
        ]
    )  # fmt: skip
