"""An OpenAI-compatible server: asked with a limit on what is under way, patiently, and never twice for one thing.

Retries with backoff, waiting as long as a 429 says, and timeouts are the ``openai`` library's. The key comes
from the environment and is written nowhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefine.errors import ConfigError
from prefine.evaluation.deadline import Deadline, TooLong
from prefine.generation.engine import Answer, Failure, Request, Sampling
from prefine.packing.kept_rows import KeptRows
from prefine.redaction import brief, remember

RENAMED = {"max_tokens": "max_completion_tokens"}
"""What newer servers call a parameter."""
BROKEN_RETRIES = 2
MISSHAPEN = (RecursionError, ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What reading a reply raises that is not of the form."""
OPTIONAL = ("response_format", "seed", "temperature", "top_p")
"""Parameters that a server may refuse; the answer is asked for without them then."""


@dataclass(frozen=True)
class Ask:
    """One question to a server: messages (or text, for the completions endpoint) and parameters."""

    messages: str | list[dict[str, Any]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0

    def key(self, model: str, server: str) -> str:
        """A hash of all that decides the answer."""
        whole = json.dumps([server, model, self.messages, dict(self.parameters), self.attempt], sort_keys=True)
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Reply:
    """A server's answer.

    Attributes:
        first_logprobs: log-probs of the likeliest first tokens, where asked for and given.
    """

    text: str
    ended: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_logprobs: dict[str, float] | None = None


class ReplyCache:
    """Replies on disk by content, open to several threads."""

    def __init__(self, path: Path) -> None:
        self._rows = KeptRows(path, "checked_replies", "judge's replies")

    def get(self, key: str) -> Reply | None:
        """The reply kept under a key."""
        kept = self._rows.get(key)
        return None if kept is None else Reply(**kept)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply."""
        self._rows.put(key, asdict(reply))


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        plain = text.isprintable() and " " not in text
        return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # of the port, of brackets
        return False


class ChatClient:
    """Asks one model of one server.

    Args:
        server: base URL, as ``http://127.0.0.1:8000/v1``; None for OpenAI's own.
        key_variable: the environment variable that holds the key; servers of one's own need none.
        concurrency: most requests under way at once.

    Raises:
        ConfigError: the address is none. That the key is missing, or nobody answers, is said at the first request.
    """

    def __init__(
        self,
        model: str,
        server: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_seconds: float = 120.0,
        max_retries: int = 6,
    ) -> None:
        import openai

        remember(server)
        if server is not None and not _is_address(server):
            raise ConfigError(f"--server {server!r}: expected an address as http://127.0.0.1:8000/v1")
        key = os.environ.get(key_variable)
        remember(key, "api_key")
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}; expected at least 1", code="PF-C03")
        self.model = model
        self.server = server or "openai"
        self.concurrency = concurrency
        try:
            self._client: Any = openai.OpenAI(
                api_key=key or "none",
                base_url=server,
                timeout=timeout_seconds,
                max_retries=max_retries,
                default_headers={"Accept-Encoding": "identity"},  # of a packed reply the size is not known before it is unpacked
            )
        except Exception as error:  # the library's own, of addresses and keys
            raise ConfigError(f"--server {self.server}: {brief(error)}") from error
        http = self._client._client
        http.follow_redirects = False  # another server is not the one that was asked
        Deadline(http, timeout_seconds)
        self._refused: set[str] = set()
        self._has_answered = False
        self._missing_key = key_variable if server is None and not key else None

    def check(self) -> None:
        """Say at once that there is no key, or nobody at the address: the library would try for half a minute."""
        if self._missing_key:
            raise ConfigError(f"no server given, and no key in {self._missing_key}: set it, or give --server URL", code="PF-J02")
        own = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"  # as the library has it
        address = urlsplit(own if self.server == "openai" else self.server)
        if not _is_address(address.geturl()):
            raise ConfigError(f"OPENAI_BASE_URL {address.geturl()!r}: expected an address as http://127.0.0.1:8000/v1")
        if address.hostname and not self._has_answered and not urllib.request.getproxies():
            try:
                socket.create_connection((address.hostname, address.port or (443 if address.scheme == "https" else 80)), 10).close()
            except (OSError, UnicodeError) as error:  # a name that is too long is no text to the resolver
                raise ConfigError(
                    f"{self.server}: cannot be reached ({getattr(error, 'strerror', None) or error})", code="PF-J01"
                ) from error

    def ask(self, ask: Ask) -> Reply | Failure:
        """One reply; parameters that the server refuses are left out from then on."""
        import openai

        broken = 0
        left_out: set[str] = set()
        named: set[str] = set()
        while True:
            refused = self._refused | left_out
            try:
                reply = self._once(ask, refused)
                self._refused |= left_out & named  # known to be it only now that the request went through without
                return reply
            except openai.BadRequestError as error:
                blamed = _blamed(str(error), ask.parameters.keys() - refused)
                if blamed is None:
                    return Failure(f"refused: {brief(error)}")
                left_out.add(blamed)
                named |= {blamed} if blamed in str(error) else set()
            except TooLong as error:
                return Failure(str(error))
            except openai.AuthenticationError as error:
                raise ConfigError(f"{self.server}: the key is not accepted ({brief(error)})", code="PF-J03") from error
            except openai.NotFoundError as error:
                raise ConfigError(
                    f"{self.server}: no model {self.model!r} there, or no such address ({brief(error)})", code="PF-J04"
                ) from error
            except openai.APIConnectionError as error:
                if isinstance(error, openai.APITimeoutError):
                    return Failure("timed out")
                if isinstance(error.__cause__, TooLong):  # older versions of the library wrap it
                    return Failure(str(error.__cause__))
                if not self._has_answered:
                    raise ConfigError(f"{self.server}: cannot be reached ({brief(error)})", code="PF-J01") from error
                return Failure(f"cannot be reached: {brief(error)}")
            except (openai.APIResponseValidationError, *MISSHAPEN) as error:
                broken += 1  # a body cut short, or not of the form: the library retries only what its status tells
                if broken > BROKEN_RETRIES:
                    return Failure(f"a reply that cannot be read ({type(error).__name__}: {brief(error)})")
            except openai.OpenAIError as error:
                if 300 <= getattr(error, "status_code", 0) < 400:
                    place = error.response.headers.get("location", "no address")  # type: ignore[attr-defined]
                    raise ConfigError(f"{self.server}: redirects to {place}; give the address that answers") from error
                return Failure(f"{type(error).__name__}: {brief(error)}")

    def _once(self, ask: Ask, refused: set[str]) -> Reply:
        parameters = {RENAMED.get(k, k) if k in refused else k: v for k, v in ask.parameters.items() if k not in refused or k in RENAMED}
        if isinstance(ask.messages, str):
            out = self._client.completions.create(model=self.model, prompt=ask.messages, **parameters)
            text = out.choices[0].text
        else:
            out = self._client.chat.completions.create(model=self.model, messages=ask.messages, **parameters)
            text = out.choices[0].message.content
        self._has_answered = True
        choice, usage = out.choices[0], out.usage
        logprobs = getattr(choice, "logprobs", None)
        first = logprobs.content[0].top_logprobs if logprobs is not None and getattr(logprobs, "content", None) else None
        return Reply(
            str(text or ""),
            choice.finish_reason != "length",
            int(getattr(usage, "prompt_tokens", 0) or 0),
            int(getattr(usage, "completion_tokens", 0) or 0),
            None if first is None else {t.token: float(t.logprob) for t in first},
        )

    def ask_all(
        self, asks: Sequence[Ask], handle: Callable[[int, Reply | Failure], Ask | None] | None = None
    ) -> Iterator[tuple[int, Reply | Failure]]:
        """Every ask's place with its reply, as they come.

        Args:
            handle: sees each reply first; an :class:`Ask` that it returns is asked in the place's stead.
        """
        if asks:
            self.check()
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting = list(enumerate(asks))[::-1]
            running: dict[Future[Reply | Failure], int] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < self.concurrency:
                        place, ask = waiting.pop()
                        running[pool.submit(self.ask, ask)] = place
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        place, reply = running.pop(done), done.result()
                        again = handle(place, reply) if handle else None
                        if again is not None:
                            waiting.append((place, again))
                        else:
                            yield place, reply
            finally:
                for future in running:
                    future.cancel()


class ServerEngine:
    """A server as an :class:`~prefine.generation.engine.Engine`."""

    def __init__(self, client: ChatClient) -> None:
        self.client = client
        self.name = f"server {client.server}"

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Answers as they come; the seed is the server's to honour."""
        asks = []
        for request in requests:
            parameters: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
            if sampling.temperature > 0:
                parameters |= {"top_p": sampling.top_p, "seed": request.seed % 2**31}
            if request.tools:
                parameters["tools"] = list(request.tools)
            if request.template_kwargs:
                parameters["extra_body"] = {"chat_template_kwargs": dict(request.template_kwargs)}  # as vLLM and SGLang take them
            asks.append(Ask(request.prompt if isinstance(request.prompt, str) else list(request.prompt), parameters))
        for place, reply in self.client.ask_all(asks):
            if isinstance(reply, Reply):
                yield place, Answer(reply.text.strip(), [], reply.ended, reply.completion_tokens)
            else:
                yield place, reply


def _blamed(message: str, sent: set[str]) -> str | None:
    """Which parameter a refusal is about: the one it names, else a structured form, which not all servers know."""
    known = sent & {*RENAMED, *OPTIONAL}
    found = next((name for name in sorted(known) if name in message), None)
    return found or next((name for name in ("response_format",) if name in known), None)
