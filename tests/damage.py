"""What may be in a file that somebody else wrote: junk, half of what should be there, other values in its place."""

from __future__ import annotations

import json
import random
from typing import Any

JUNK = [
    *(b"", b"\xff\xfe\x00\x80", b"null", b"[]", b"7", b'"x"', b"{}", b'{"a":', b"[" * 100_000, b"- a\n- b\n", b"a: [1", b"\0" * 99),
    *(b'{"a": 1}\n{"b": 2}\n', b"[1]\n[2]\n", b"null\nnull\n", b"!!python/object/apply:os.system [exit]", b"&a [*a]", b'{"step": {}}'),
]
VALUES = [None, 7, "x", [], {}, [1], {"a": 1}, float("inf"), True, -1]


def replaced(value: Any, rng: random.Random) -> Any:
    """The same with one value in it another, or gone."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        if rng.random() < 0.3:
            return {k: v for k, v in value.items() if k != key} if rng.random() < 0.3 else value | {key: rng.choice(VALUES)}
        return value | {key: replaced(value[key], rng)}
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        return [*value[:at], replaced(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


def mutated(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(JUNK)
    if kind == 1:
        return content[: rng.randrange(len(content) + 1)]
    if kind == 2:
        flipped = bytearray(content)
        for _ in range(4):
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        return bytes(flipped)
    lines = [content] if content.startswith(b"{\n") else content.split(b"\n")
    at = rng.randrange(len(lines))
    try:
        lines[at] = json.dumps(replaced(json.loads(lines[at]), rng)).encode()
    except ValueError:  # YAML
        lines[at] = lines[at].partition(b":")[0] + b": " + json.dumps(rng.choice(VALUES)).encode()
    return b"\n".join(lines)
