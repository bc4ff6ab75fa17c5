"""Judge's replies, responses and the table of options are kept for later; what was altered meanwhile is not believed."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefine.api import fields
from prefine.cache import cache_folder
from prefine.evaluation.chat_client import Reply, ReplyCache
from prefine.generation.engine import Answer
from prefine.generation.response_cache import ResponseCache
from prefine.packing import kept_rows

Made = Callable[[int], Any]
CACHES: dict[str, tuple[Callable[[Path], Any], Made, str]] = {
    "replies": (ReplyCache, lambda i: Reply(f"said {i} ü", True, i, i, {"A": -0.5}), "checked_replies"),
    "responses": (ResponseCache, lambda i: Answer(f"said {i} ü", [i, i + 1], True, 2), "checked_responses"),
}


@pytest.fixture(params=CACHES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def filled(kind: str, path: Path, count: int = 5) -> Path:
    """A cache's file with some values."""
    make, value, _ = CACHES[kind]
    cache = make(path)
    for i in range(count):
        cache.put(f"key {i}", value(i))
    cache._rows.close()
    return path


def given_back(cache: Any, value: Made) -> list[Any]:
    """What a cache holds; one more is put into it."""
    found = [cache.get(f"key {i}") for i in range(200)]
    cache.put("key 0", value(0))
    return found


def test_what_was_kept_is_given_back(kind: str, tmp_path: Path) -> None:
    make, value, _ = CACHES[kind]
    cache = make(filled(kind, tmp_path / "deep" / "c.sqlite"))
    assert [cache.get(f"key {i}") for i in range(6)] == [*map(value, range(5)), None]
    cache.put("key 0", value(7))
    assert cache.get("key 0") == value(7)


ALTERED = {
    "a word": "update {} set value = replace(cast(value as text), 'said 2', 'said 9') where key = 'key 2'",
    "another row's": "update {0} set (value, checksum) = (select value, checksum from {0} where key = 'key 3') where key = 'key 2'",
    "a number": "update {} set value = 7 where key = 'key 2'",
    "no text": "update {} set value = x'ff00fe' where key = 'key 2'",
    "another type": "update {} set value = 'null' where key = 'key 2'",
    "no checksum": "update {} set checksum = '' where key = 'key 2'",
}


@pytest.mark.parametrize("how", ALTERED)
def test_a_row_that_was_altered_is_not_believed(how: str, kind: str, tmp_path: Path) -> None:
    make, value, table = CACHES[kind]
    path = filled(kind, tmp_path / "c.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute(ALTERED[how].format(table)).rowcount == 1
        database.commit()
    cache = make(path)
    with pytest.warns(UserWarning, match="were altered since they were kept") as heard:
        assert [cache.get("key 2") for _ in range(2)] == [None, None]
    assert len(heard) == 1
    assert cache.get("key 1") == value(1)
    cache.put("key 2", value(2))
    assert cache.get("key 2") == value(2)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2 + 7]


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda content: b"no database at all" * 400,
    "truncated": truncated,
    "a header alone": lambda content: content[:100],
    "pages of zeros": lambda content: content[:100] + bytes(len(content) - 100),
}


@pytest.mark.filterwarnings("ignore:.*were altered")
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_set_aside(how: str, kind: str, tmp_path: Path) -> None:
    make, value, _ = CACHES[kind]
    path = filled(kind, tmp_path / "c.sqlite", 200)
    broken = BROKEN[how](path.read_bytes())
    path.write_bytes(broken)
    with pytest.warns(UserWarning, match=r"the cache is damaged .* set aside as c.sqlite.damaged-0, and made anew") as heard:
        found = given_back(make(path), value)
    assert len([w for w in heard if "damaged" in str(w.message)]) == 1
    assert all(f in (None, value(i)) for i, f in enumerate(found))
    assert (tmp_path / "c.sqlite.damaged-0").read_bytes() == broken
    assert make(path).get("key 0") == value(0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(40))
def test_no_turned_bytes_are_believed(seed: int, tmp_path: Path) -> None:
    rng, kind = random.Random(seed), list(CACHES)[seed % 2]
    make, value, _ = CACHES[kind]
    path = filled(kind, tmp_path / "c.sqlite", 60)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 20, 400])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)
    cache = make(path)
    for i in range(60):
        assert cache.get(f"key {i}") in (None, value(i))
        cache.put(f"key {i}", value(i))
        assert cache.get(f"key {i}") in (None, value(i))


def test_tables_of_another_make(kind: str, tmp_path: Path) -> None:
    make, value, table = CACHES[kind]
    path = tmp_path / "c.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"create table {table} (something text)")
        database.commit()
    with pytest.warns(UserWarning, match="set aside"):
        cache = make(path)
    cache.put("key 0", value(0))
    assert cache.get("key 0") == value(0)


def test_what_another_process_holds_is_done_without(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "WAIT_SECONDS", 0.05)
    make, value, _ = CACHES[kind]
    path = filled(kind, tmp_path / "c.sqlite")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.warns(UserWarning, match=r"cannot be used \(database is locked\); .* are not kept for later") as heard:
            assert set(given_back(make(path), value)) == {None}
        assert len(heard) == 1
        other.execute("rollback")
    assert make(path).get("key 0") == value(0)


def test_no_file_can_be_made_there(kind: str, tmp_path: Path) -> None:
    make, value, _ = CACHES[kind]
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "c.sqlite", tmp_path):
        with pytest.warns(UserWarning, match="cannot be used"):
            cache = make(path)
        cache.put("key 0", value(0))
        assert cache.get("key 0") is None


TABLES: dict[str, Callable[[bytes], bytes]] = {
    "a default": lambda content: content.replace(b'"default": null', b'"default": 7', 1),
    "truncated": truncated,
    "empty": lambda content: b"",
    "a list": lambda content: b"[]",
    "a number": lambda content: b"7",
    "no commands": lambda content: json.dumps({k: v for k, v in json.loads(content).items() if k != "commands"}).encode(),
    "no UTF-8": lambda content: b"\xff" + content,
    "deep": lambda content: b"[" * 100_000,
}


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    return fields.make_table()


@pytest.mark.parametrize("how", TABLES)
def test_the_table_of_options_is_made_anew(
    how: str, table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    made = []
    monkeypatch.setenv("PREFINE_CACHE", str(tmp_path))
    monkeypatch.setattr(fields, "TABLE", tmp_path / "none.json")
    monkeypatch.setattr(fields, "make_table", lambda: made.append(1) or table)
    read = fields._table.__wrapped__
    first = read()
    assert read() == first
    assert made == [1]
    assert not recwarn
    path = cache_folder() / "fields.json"
    content = path.read_bytes()
    assert TABLES[how](content) != content
    path.write_bytes(TABLES[how](content))
    with pytest.warns(UserWarning, match=r"fields\.json: the cache is damaged"):
        assert read() == first
    assert read() == first
    assert made == [1, 1]
    path.unlink()
    path.mkdir()  # cannot be written
    with pytest.warns(UserWarning, match="the cache is damaged"):
        assert read() == first
