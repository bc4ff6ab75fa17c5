"""An OpenAI-compatible server on loopback that behaves as badly as it is told."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Misbehaving(ThreadingHTTPServer):
    """Answers chat requests.

    Attributes:
        reply: request body -> the model's words.
        faults: words found in a request -> what goes wrong the first time it is asked: an HTTP status,
            ``"timeout"``, or ``"half"`` for a body that is cut.
        refuses: parameters that get status 400.
        asked: requests by their last message; paid: those that got a whole answer.
    """

    daemon_threads = True

    def __init__(self, reply: Callable[[dict[str, Any]], str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.faults: dict[str, int | str] = {}
        self.refuses: set[str] = set()
        self.delay_seconds = 0.0
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON, and says nothing of it."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)


class Handler(JsonHandler):
    server: Misbehaving

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        with self.server.lock:
            self.server.asked[text] += 1
            self.server.bodies.append(body)
            self.server.keys.add(self.headers.get("Authorization", ""))
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
            first = self.server.asked[text] == 1
        time.sleep(self.server.delay_seconds)
        try:
            refused = self.server.refuses & body.keys()
            if refused:
                return self._send(400, {"error": {"message": f"unknown parameter: {sorted(refused)[0]}"}})
            fault = next((f for words, f in self.server.faults.items() if words in text), None)
            if fault == "timeout" and first:
                time.sleep(1.5)
            elif isinstance(fault, int) and first:
                return self._send(fault, {"error": {"message": "told to"}}, {"retry-after-ms": "20"})
            elif fault == "half" and first:
                return self._send(200, b'{"id": "x", "choices": [{"index": 0, "mess')
            self._send(200, self._completion(body, text))
            with self.server.lock:
                self.server.paid[text] += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def _completion(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        said = self.server.reply(body)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if body.get("logprobs"):
            # "A:0.7" gives A that probability and B the rest
            p = float(said.partition(":")[2])
            likely = [{"token": t, "logprob": math.log(q), "bytes": None} for t, q in (("A", p), ("B", 1 - p)) if q > 0]
            choice["logprobs"] = {"content": [likely[0] | {"top_logprobs": likely}], "refusal": None}
        choice |= {"message": {"role": "assistant", "content": said}} if "messages" in body else {"text": said}
        usage = {"prompt_tokens": len(text) // 4, "completion_tokens": len(said) // 4, "total_tokens": 0}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice], "usage": usage}


@contextmanager
def serving(reply: Callable[[dict[str, Any]], str]) -> Iterator[Misbehaving]:
    server = Misbehaving(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
