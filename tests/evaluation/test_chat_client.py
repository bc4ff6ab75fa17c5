"""A judge's server that behaves as no server should: a sentence each time, no traceback, no waiting without end."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judge_server import Handler, Misbehaving, serving
from prefine.cli import main
from prefine.errors import ConfigError, PrefineError
from prefine.evaluation import deadline
from prefine.evaluation.chat_client import Ask, ChatClient, Reply
from prefine.generation.engine import Failure

ASK = Ask([{"role": "user", "content": "hello"}], {"max_tokens": 4})


def whole(**choice: Any) -> bytes:
    message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}} | choice
    return json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [message]}).encode()


BODIES: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "empty": (200, b"", {}),
    "text": (200, b"I am no JSON", {"Content-Type": "text/plain"}),
    "html": (200, b"<html>welcome</html>", {"Content-Type": "text/html"}),
    "not JSON": (200, b"{{{", {}),
    "binary": (200, bytes(range(256)), {}),
    "deep": (200, b"[" * 200_000, {}),
    "deep and whole": (200, b"[" * 200_000 + b"]" * 200_000, {}),
    "deep within": (200, b'{"choices": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", {}),
    "a number": (200, b"7", {}),
    "a list": (200, b"[]", {}),
    "null": (200, b"null", {}),
    "long number": (200, b'{"choices": ' + b"9" * 10_000 + b"}", {}),
    "no choices": (200, b"{}", {}),
    "choices null": (200, b'{"choices": null}', {}),
    "choices a number": (200, b'{"choices": [7]}', {}),
    "message a list": (200, whole(message=[1]), {}),
    "logprobs wrong": (200, whole(logprobs={"content": [{"top_logprobs": 7}]}), {}),
    "redirect": (302, b"", {"Location": "http://127.0.0.1:9/elsewhere"}),
    "redirect nowhere": (307, b"", {}),
    "not modified": (304, b"", {}),
    "bad request": (400, b"no", {}),
    "no right": (401, b"{}", {}),
    "forbidden": (403, b"<b>no</b>", {"Content-Type": "text/html"}),
    "not there": (404, b"", {}),
    "error": (500, b"[" * 200_000, {}),
    "unknown status": (599, b"?", {}),
    "compressed": (200, gzip.compress(whole()), {"Content-Encoding": "gzip"}),
    "wrongly compressed": (200, b"no gzip", {"Content-Encoding": "gzip"}),
}

DRIPS = ("headers", "status", "informing", "chunks", "sizes", "trailers")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Saying(Handler):
    server: Misbehaving

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked["any"] += 1
        what = self.server.reply({})
        if what == "drips":
            self._start(10**6)
            for _ in range(400):
                if not self._write(b" "):
                    break
                time.sleep(0.05)
        elif what == "long":
            self._start(10**9)
            for _ in range(2**12):
                if not self._write(b" " * 2**14):
                    break
        elif what == "fine":
            self._send(200, whole())
        elif what in DRIPS:
            self._drip(what)
        else:
            status, body, headers = BODIES[what]
            self._send(status, body, headers)

    def _drip(self, what: str) -> None:
        """Answers of which each byte comes in time, and which never end."""
        begin = {"headers": b"HTTP/1.1 200 OK\r\nX-Slow: ", "status": b"HTTP/1.1 2", "informing": b"", "chunks": CHUNKED, "sizes": CHUNKED,
                 "trailers": CHUNKED + b"0\r\n"}  # fmt: skip
        more = {"informing": b"HTTP/1.1 103 Early Hints\r\n\r\n", "chunks": b"1\r\n \r\n", "trailers": b"x: y\r\n"}
        part = begin[what]
        while self._write(part):
            part = more.get(what, b"0")
            time.sleep(0.02)
        self.close_connection = True

    def _start(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _write(self, part: bytes) -> bool:
        try:
            self.wfile.write(part)
            self.wfile.flush()
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with serving(lambda body: "") as found:
        found.RequestHandlerClass = Saying
        yield found


@pytest.mark.parametrize("what", BODIES)
def test_no_reply_is_a_traceback(what: str, server: Misbehaving) -> None:
    server.reply = lambda body: what
    client = ChatClient("m", server.url, max_retries=0, timeout_seconds=20)
    try:
        found: Reply | Failure | PrefineError = client.ask(ASK)
    except PrefineError as error:
        found = error
    assert isinstance(found, Failure | ConfigError) or (what == "text" and isinstance(found, Reply))
    assert isinstance(found, ConfigError) <= (BODIES[what][0] != 200)
    assert len(str(found)) < 500
    assert "\n" not in str(found)


def test_a_redirect_names_where_it_leads(server: Misbehaving) -> None:
    server.reply = lambda body: "redirect"
    with pytest.raises(ConfigError, match=r"redirects to http://127.0.0.1:9/elsewhere; give the address that answers"):
        ChatClient("m", server.url).ask(ASK)
    assert server.asked["any"] == 1


def test_a_reply_that_drips_is_timed_out_in_all(server: Misbehaving) -> None:
    """Each byte comes in time; the 400 of them would take twenty seconds."""
    server.reply = lambda body: "drips"
    assert ChatClient("m", server.url, max_retries=0, timeout_seconds=0.5).ask(ASK) == Failure("timed out")


@pytest.mark.parametrize("what", DRIPS)
def test_whatever_drips_is_timed_out_in_all(what: str, server: Misbehaving) -> None:
    """It would go on for ever: that the test ends is the test."""
    server.reply = lambda body: what
    found = ChatClient("m", server.url, max_retries=0, timeout_seconds=0.5).ask(ASK)
    assert found == Failure("timed out")


def test_each_request_has_a_time_of_its_own(server: Misbehaving) -> None:
    """On a connection that is kept, too, and after one that took all of its time."""
    client = ChatClient("m", server.url, max_retries=0, timeout_seconds=1)
    said = iter(["fine", "drips", "fine", "fine"])
    server.reply = lambda body: next(said)
    found = [client.ask(ASK) for _ in range(4)]
    assert [isinstance(f, Reply) for f in found] == [True, False, True, True]


def test_a_reply_has_a_length(server: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "MOST_BYTES", 2**20)
    server.reply = lambda body: "long"
    assert ChatClient("m", server.url, max_retries=0).ask(ASK) == Failure("the reply is longer than 1 MiB")


ADDRESSES = [
    *(
        "ftp://host/v1",
        "host:8000",
        "http://",
        "http:///v1",
        "http://:80/v1",
        "http://host:99999999/v1",
        "http://host:abc/v1",
        "http://[::1/v1",
    ),
    *(
        "http://a b/v1",
        "http://host\x00/v1",
        "http://host\n/v1",
        "",
        "http://host:-1/v1",
        "http://\u202e/v1",
        "http://" + "a" * 300 + "/v1",
    ),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_are_none(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"instruction": "hello", "output": name, "generator": name}) + "\n")
    judge = ["--judge", "openai", "--judge-model", "m", f"--server={address}", "--retries", "0", "--output-dir", str(tmp_path / "out")]
    assert main(["judge", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), *judge]) == 2
    said = capsys.readouterr().err
    assert said.startswith("prefine: error: ")
    assert said.count("\n") == 1
    assert "a.jsonl" not in said  # it is the address that is wrong
