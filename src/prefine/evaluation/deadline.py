"""A limit on what one request to a server may take in all: httpx bounds each read alone, and a server may drip."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

MOST_BYTES = 32 * 2**20
"""Of a reply: some thousand times what a model writes."""
PIECE_BYTES = 2**16
"""Written at a time, with the time left looked at in between."""


class TooLong(Exception):
    """A reply that is longer than any may be."""


class Deadline:
    """Bounds every request of an httpx client, or of what the openai library has in its place, in time and its reply in bytes.

    The time counts from when the request is sent until its reply is read, headers included.

    Args:
        client: its hooks and the network of its connections are replaced.
    """

    def __init__(self, client: Any, seconds: float) -> None:
        self.seconds = seconds
        self._http = sys.modules[type(client).__mro__[-2].__module__.partition(".")[0]]
        self._of_thread = threading.local()
        client.event_hooks = {"request": [self._begin], "response": [self._bound]}
        for transport in (client._transport, *client._mounts.values()):  # the mounts are proxies'
            pool = getattr(transport, "_pool", None)
            if pool is not None:
                pool._network_backend = _Network(pool._network_backend, self)

    def left(self, most: float | None = None) -> float:
        """Seconds until this thread's request must have ended, ``most`` at most.

        Raises:
            ReadTimeout: of the client's library: there are none.
        """
        left: float = getattr(self._of_thread, "end", time.monotonic() + self.seconds) - time.monotonic()
        if left <= 0:
            raise self._http.ReadTimeout("the reply did not end in time")
        return left if most is None else min(left, most)

    def _begin(self, request: Any) -> None:
        self._of_thread.end = time.monotonic() + self.seconds

    def _bound(self, response: Any) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise TooLong("the reply is compressed, which was not asked for")
        inner, left = response.stream, self.left

        class Bounded(self._http.SyncByteStream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Iterator[bytes]:
                size = 0
                for part in inner:
                    size += len(part)
                    left()
                    if size > MOST_BYTES:
                        raise TooLong(f"the reply is longer than {MOST_BYTES // 2**20} MiB")
                    yield part

            def close(self) -> None:
                inner.close()

        response.stream = Bounded()


class _Network:
    """A network of httpcore whose streams keep to a deadline."""

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect_tcp(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> _Stream:
        return _Stream(self._inner.connect_tcp(*args, timeout=self._deadline.left(timeout), **kwargs), self._deadline)


class _Stream:
    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        return self._inner.read(max_bytes, timeout=self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), PIECE_BYTES):
            self._inner.write(buffer[start : start + PIECE_BYTES], timeout=self._deadline.left(timeout))

    def start_tls(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> _Stream:
        return _Stream(self._inner.start_tls(*args, timeout=self._deadline.left(timeout), **kwargs), self._deadline)
