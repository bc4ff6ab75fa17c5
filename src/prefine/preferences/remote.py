"""Files of object stores and servers, by URL: ``s3://``, ``gs://``, ``hf://`` and whatever else fsspec reads.

A file is copied to the cache once, whole, under what the store says of its version, and read from there like any other.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefine.cache import cache_folder
from prefine.errors import ConfigError, MissingFile
from prefine.preferences.blocks import READERS, data_suffix
from prefine.redaction import remember

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_names: dict[Path, str] = {}
"""Copies, and the URLs that they are of."""


def is_url(source: str) -> bool:
    """Whether a source is a URL."""
    return bool(URL.match(source))


def shown(path: Path) -> str:
    """What a file is called: a copy by its URL."""
    return _names.get(path, str(path))


def check_url(source: str) -> None:
    """Whether there is something at a URL, without copying it.

    Raises:
        MissingFile, ConfigError: as :func:`copies`.
    """
    _listed(source)


def copies(source: str) -> list[Path]:
    """Local copies of the files at a URL: one file, those of a folder, or those that a pattern matches, in order.

    Raises:
        MissingFile: nothing is there.
        ConfigError: no driver for the scheme, a password in the URL, or the store refuses.
    """
    store, found = _listed(source)
    out = []
    for name in found:
        url = store.unstrip_protocol(name)
        try:
            version = _version(store, name)
            key = hashlib.blake2b(f"{url}\n{version}".encode(), digest_size=16).hexdigest()
            place = cache_folder() / "remote" / key / Path(urlsplit(url).path if _is_http(url) else name).name
            if version is None or not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(dir=place.parent)
                os.close(handle)
                try:
                    store.get_file(name, temporary)
                    os.replace(temporary, place)
                finally:
                    Path(temporary).unlink(missing_ok=True)
        except Exception as error:  # of a store's driver, for whatever the network or its rights do
            raise _refused(source, error) from error
        _names[place] = url
        out.append(place)
    return out


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _version(store: Any, name: str) -> str | None:
    """What the store says of a file's content; None where it says nothing, so that it is to be copied each time."""
    if not _is_http(store.unstrip_protocol(name)):
        return str(store.ukey(name))
    told = store.info(name)  # fsspec takes what is at an address to be the same for ever
    known = [told.get(header) for header in ("ETag", "Last-Modified", "Content-MD5", "Digest")]
    return f"{known} {told.get('size')}" if any(known) else None


def _listed(source: str) -> tuple[Any, list[str]]:
    import fsspec

    parts = urlsplit(source)
    if parts.password is not None:
        raise ConfigError("a URL with a password in it would be written into logs and runs; give it as the store's driver reads it")
    remember(source)  # a signature in it is left out of logs and runs
    try:
        store, path = fsspec.core.url_to_fs(source)
        if _is_http(source):  # of a page fsspec would make a folder, and a question mark stands before parameters
            store.info(path)
            found = [path]
        elif any(mark in path for mark in "*?["):
            found = sorted(store.glob(path))
        elif store.isdir(path):
            found = sorted(p for p in store.find(path) if data_suffix(Path(p)) in READERS)
        else:
            found = [path] if store.exists(path) else []
    except FileNotFoundError as error:  # of an address that cannot be reached, too
        if error.__cause__ is not None and getattr(error.__cause__, "status", None) != 404:
            raise _refused(source, error.__cause__) from error
        found = []
    except ImportError as error:  # it names the package
        raise ConfigError(f"{source}: {error}", code="PF-C10") from error
    except ValueError as error:  # no such scheme
        told = f"{source}: {error}; give a path, or a URL whose scheme fsspec knows (s3, gs, hf, https and more)"
        raise ConfigError(told, code="PF-F00") from error
    except Exception as error:  # of a store's driver
        raise _refused(source, error) from error
    if not found:
        raise MissingFile(f"{source}: nothing is there")
    return store, found


def _refused(source: str, error: BaseException) -> ConfigError:
    told = " ".join(str(error).split())[:200]
    return ConfigError(f"{source}: could not be read ({type(error).__name__}: {told}); check the address and its rights", code="PF-F03")
