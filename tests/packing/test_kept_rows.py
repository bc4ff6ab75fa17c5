"""What is kept by content is read as it was written, or not at all; a disk that takes no more stops nothing."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from prefine.packing.kept_rows import KeptRows

pytestmark = pytest.mark.filterwarnings("ignore:.*the cache")
ROWS = {f"key {i}": {"text": f"the answer of {i} " * 9, "ended": bool(i % 2), "odd": "\udcff\u2028"} for i in range(40)}


def rows(path: Path) -> KeptRows:
    return KeptRows(path, "answers", "answer")


def filled(path: Path) -> bytes:
    fill(rows(path))
    return path.read_bytes()


def fill(kept: KeptRows) -> None:
    for key, value in ROWS.items():
        kept.put(key, value)


def test_rows_are_found_by_another_process_and_replaced(tmp_path: Path) -> None:
    filled(tmp_path / "new" / "kept.sqlite")
    again = rows(tmp_path / "new" / "kept.sqlite")
    assert {key: again.get(key) for key in ROWS} == ROWS
    assert again.get("another") is None
    again.put("key 1", {"text": "b"})
    assert rows(tmp_path / "new" / "kept.sqlite").get("key 1") == {"text": "b"}


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_a_damaged_file_gives_what_was_written_or_nothing(how: str, tmp_path: Path) -> None:
    path, draw, missing = tmp_path / "kept.sqlite", random.Random(0), 0
    content = filled(path)
    for _ in range(150):
        spoilt = bytearray(content)
        if how == "flip":
            spoilt[draw.randrange(len(spoilt))] ^= draw.randrange(1, 256)
        else:
            spoilt = spoilt[: draw.randrange(len(spoilt))]
        path.write_bytes(spoilt)
        kept = rows(path)
        found = {key: kept.get(key) for key in ROWS}
        assert all(value in (None, ROWS[key]) for key, value in found.items())
        missing += None in found.values()
        kept.put("key 3", {"text": "anew"})
        assert kept.get("key 3") == {"text": "anew"}
    assert missing > 20


def test_that_a_cache_is_made_anew_is_said(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"no database at all, but many words of something else" * 99)
    with pytest.warns(UserWarning, match="kept.sqlite: the cache is damaged: it is made anew"):
        rows(path).put("a", {"b": 1})
    assert rows(path).get("a") == {"b": 1}


@pytest.mark.parametrize("why", ["a file in its way", "removed", "full"])
def test_what_cannot_be_kept_on_disk_is_kept_in_memory(why: str, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "kept.sqlite"
    if why == "a file in its way":
        (tmp_path / "cache").write_text("no folder")
    kept = rows(path)
    if why != "a file in its way":
        kept.put("a", {"b": 1})
    if why == "removed":
        path.unlink()
    if why == "full":
        kept._open().execute("pragma max_page_count = 3")
    with pytest.warns(UserWarning, match=r"the cache takes no more \(.+\): nothing is kept for later runs"):
        fill(kept)
    assert kept.get("key 39") == ROWS["key 39"]


def test_rows_of_earlier_versions_are_read(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "kept.sqlite")
    database.execute("create table answers (key text primary key, answer text not null)")
    database.execute("insert into answers values ('a', '{\"text\": \"b\"}')")
    database.commit()
    database.close()
    assert rows(tmp_path / "kept.sqlite").get("a") == {"text": "b"}
