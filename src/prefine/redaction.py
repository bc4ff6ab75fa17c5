"""Secrets, kept out of all that is written or shown.

Secret are the values given under a secret's name (``hub_token``, ``api_key``), of environment variables with such a name, and user and
password of an address. Each is replaced by its value, wherever it turns up: in a server's error as well as in a file.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

REDACTED = "[secret]"
NAME = re.compile(
    r"(?:^|[_-])(?:(?:api|access|auth|hub|hf|secret|private|bearer)[_-]?(?:key|token)|secret|password|passwd|passphrase|credentials?)$"
    r"|^(?:use_auth_)?token$|^authorization$|^(?:x-(?:amz|goog)-)?signature$|^x-amz-security-token$|^sig$",
    re.IGNORECASE,
)
"""Names of options, of keys and of an address's parameters whose values are secret; pad_token and max_tokens are none."""
VARIABLE = re.compile(r"(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$", re.IGNORECASE)
USER = re.compile(r"[a-z][a-z0-9+.-]*://([^\s/@'\"]+@)", re.IGNORECASE)
PARAMETER = re.compile(r"[?&]([\w.-]+)=([^&#\s'\"]+)")
NAMED = re.compile(r"[\"']?([\w-]+)[\"']?\s*[:=]\s*[\"']?([^\s\"',}&]+)")
SHORTEST = 6
"""Characters; shorter values would be found in any text, and protect nothing."""

_given: set[str] = set()


def remember(value: Any, name: str = "") -> None:
    """Keep in mind what is secret of an option's value: all of it where ``name`` is a secret's, and what addresses in it say."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            remember(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            if isinstance(inner, str):  # rows in memory are data
                remember(inner, name)
    elif isinstance(value, str):
        users = USER.findall(value)
        secret = [secret for key, secret in PARAMETER.findall(value) if NAME.search(key)]
        _keep([*([value] if NAME.search(name) else []), *users, *(user.partition(":")[2][:-1] for user in users), *secret])


def remember_text(text: str) -> None:
    """Keep in mind what a text of options, as a YAML file, says under secrets' names and in addresses."""
    remember(text)
    _keep([secret for key, secret in NAMED.findall(text) if NAME.search(key)])


def _keep(found: list[str]) -> None:
    _given.update(secret for part in found for secret in (part, unquote(part)) if len(secret) >= SHORTEST and secret != REDACTED)


def remember_words(words: Iterable[str]) -> None:
    """Keep in mind the secrets of a command line, before it is read: an error may show it."""
    flag = ""
    for word in words:
        remember(word, flag)
        remember_text(word.removeprefix("--"))
        flag = word.removeprefix("--") if word.startswith("--") and "=" not in word else ""


def refresh() -> None:
    """Look at the environment anew."""
    _of_environment.cache_clear()


def redact(text: str) -> str:
    """Text without secrets."""
    pattern = _pattern(frozenset(_given | _of_environment()))
    return text if pattern is None else pattern.sub(REDACTED, text)


def brief(error: BaseException) -> str:
    """What an error says, in a line of 300 characters at most, without secrets."""
    return redact(" ".join(str(error).split()))[:300]


def redacted(value: Any) -> Any:
    """A value as files hold them, without secrets in it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        secret = {key for key, inner in value.items() if isinstance(inner, str) and inner and NAME.search(str(key))}
        return {redacted(key): REDACTED if key in secret else redacted(inner) for key, inner in value.items()}
    return [redacted(inner) for inner in value] if isinstance(value, list | tuple) else value


def is_redacted(value: Any) -> bool:
    """Whether something of a value was left out of the file that it comes from."""
    if isinstance(value, Mapping):
        return any(is_redacted(inner) for inner in value.values())
    return any(is_redacted(inner) for inner in value) if isinstance(value, list) else isinstance(value, str) and REDACTED in value


@functools.cache
def _of_environment() -> frozenset[str]:
    return frozenset(value for name, value in os.environ.items() if VARIABLE.search(name) and _may_be_secret(value))


def _may_be_secret(value: str) -> bool:
    """Not for a path, a number or a plain word: they are settings, as SORT_KEY=response."""
    plain = value.isdigit() or (value.isalpha() and (value.islower() or value.isupper()) and len(value) < 20)
    return len(value) >= 8 and not plain and not value.startswith(("/", "~", "."))


@functools.lru_cache(4)
def _pattern(values: frozenset[str]) -> re.Pattern[str] | None:
    """The values as they are, and as JSON, HTML and addresses spell them; the longest first."""
    import html

    spelt = {
        form for v in values for form in (v, json.dumps(v)[1:-1], html.escape(v), quote(v, safe=""), quote(v, safe="@:"), repr(v)[1:-1])
    }
    return re.compile("|".join(map(re.escape, sorted(spelt, key=len, reverse=True)))) if spelt else None
