"""Preference data as an object: read from anywhere, looked at, thinned out, split, handed on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefine import __version__
from prefine.api.reading import column_map, counted, describe, reading_lines
from prefine.api.tables import Table, lines_html
from prefine.errors import ConfigError, DataError
from prefine.preferences.convert import PairSource, Reading, canonical
from prefine.preferences.labels import LabelledSource
from prefine.preferences.records import Dropped, Labelled, Pair
from prefine.runs import read_json, to_json, write_json

READ_PLAINLY = {"format": None, "map": None, "pairing": "best-vs-worst", "min_gap": 0.0}
"""How pairs are read where nothing is said of it; the seed then decides nothing."""


class Preferences:
    """Preference pairs of a source, or single responses with labels where its rows are such; rows are read when they are asked for, so
    that a file may be larger than memory.

    Args:
        sources: files, folders, globs, Hub ids, databases.
        options: how they are read, by the names of :func:`load_preferences`.
        left_out: rows that were left out of these pairs before, by reason; name: what to call them.
    """

    def __init__(self, sources: list[str], options: Mapping[str, Any], left_out: Mapping[str, int] | None = None, name: str = "") -> None:
        self.sources, self._options = sources, dict(options)
        self._left_out, self._name = dict(left_out or {}), name
        self._read: tuple[str, dict[str, Any]] | None = None
        self._labelled: bool | None = None

    @property
    def labelled(self) -> bool:
        """Whether these are single responses with labels, for :func:`kto`, not pairs: what the first usable row is."""
        if self._labelled is None:
            first = next((r for r in PairSource(self.sources, self._reading()).records() if not isinstance(r, Dropped)), None)
            self._labelled = isinstance(first, Labelled)
        return self._labelled

    def _reading(self) -> Reading:
        how = self._options
        return Reading(column_map(how["map"]), how["format"], how["pairing"], how["min_gap"], how["seed"])

    def _open(self) -> PairSource:
        return (LabelledSource if self.labelled else PairSource)(self.sources, self._reading())

    def __iter__(self) -> Iterator[Pair | Labelled]:
        source = self._open()
        before, count = source.fingerprint, 0
        for pair in source:
            count += 1
            yield pair
        self._read = (before, source.summary() | {self._count: count})

    @property
    def _count(self) -> str:
        return "responses" if self.labelled else "pairs"

    def __len__(self) -> int:
        return int(self.summary()[self._count])

    @property
    def format(self) -> str:
        """The format that was found."""
        return str(self.summary()["format"])

    @property
    def dropped(self) -> dict[str, int]:
        """How many rows are not usable, or were left out on the way here, by reason."""
        return _sum(self._left_out, {reason: what["count"] for reason, what in self.summary()["dropped"].items()})

    def summary(self) -> dict[str, Any]:
        """Format, counts, drops with their rows, notes: what a run's ``data.json`` holds of its reading. Read again where files changed."""
        if self._read is None or self._read[0] != self._open().fingerprint:
            for _ in self:
                pass
        assert self._read is not None
        return self._read[1]

    def audit(self, **options: Any) -> Any:
        """What will hurt, before it is trained on; options are those of ``prefine data audit``, ``model`` for tokens among them.

        Raises:
            ConfigError: an unknown option.
        """
        from prefine.api.auditing import audit_data

        return audit_data(**self._options | {"source": self.sources} | options)

    def show(self, **options: Any) -> Any:
        """A few records; with ``model`` and ``tokens=True`` what a trainer would be given of them."""
        from prefine.api.showing import show

        return show(**self._options | {"source": self.sources} | options)

    def dedup(self, **options: Any) -> Preferences:
        """Without duplicates; options are those of ``prefine data dedup``, as ``near=0.5``."""
        from prefine.api.deduplicating import dedup

        return self._through(dedup, options)

    def filter(self, **options: Any) -> Preferences:
        """Without rows that a check of the audit finds; options are those of ``prefine data filter``, as ``drop=["refusal"]``."""
        from prefine.api.filtering import filter_rows

        return self._through(filter_rows, options)

    def sample(self, fraction: float, seed: int = 0) -> Preferences:
        """A seeded part."""
        from prefine.api.drawing import sample

        return self._through(sample, {"fraction": fraction}, seed)

    def train_test_split(self, test_size: float = 0.05, seed: int = 0) -> tuple[Preferences, Preferences]:
        """Two parts, never one prompt on both sides; a prompt's side depends on it and the seed alone.

        Raises:
            DataError: a part would be empty.
        """
        from prefine.api.splitting import split

        folder = self._cache("split", {"test_size": test_size, "seed": seed})
        if not (folder / "eval.jsonl").exists():
            split(source=self.files(), seed=seed, output_dir=str(folder), eval_fraction=test_size)
        if not (folder / "eval.jsonl").stat().st_size:
            raise DataError(f"a test_size of {test_size} leaves no prompt to test on; give more rows or a larger share")
        return load_preferences(str(folder / "train.jsonl")), load_preferences(str(folder / "eval.jsonl"))

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the canonical format: .jsonl, .jsonl.gz or .parquet; options are those of ``prefine data convert``.

        Raises:
            DataError: nothing is left to write.
        """
        from prefine.api.converting import convert

        kept = {"to": "labelled"} if self.labelled else {}
        convert(**self._options | {"source": self.sources, "output": str(path)} | kept | options)
        return Path(path)

    def to_dataset(self) -> Any:
        """A ``datasets.Dataset`` in the canonical format, for other trainers."""
        from datasets import Dataset

        return Dataset.from_list([canonical(pair) for pair in self])

    def to_pandas(self) -> Any:
        """A pandas DataFrame in the canonical format."""
        import pandas

        return pandas.DataFrame([canonical(pair) for pair in self])

    def files(self) -> list[str]:
        """Sources that give these pairs by themselves: their own where they were read without options, else one in the cache."""
        plain = all(self._options[name] == value for name, value in READ_PLAINLY.items())
        return self.sources if plain else self.written()

    def written(self) -> list[str]:
        """The pairs in the canonical format, in one file in the cache."""
        path = self._cache("canonical", {}).with_suffix(".jsonl")
        if not path.exists():
            self.save(path)
        return [str(path)]

    def _cache(self, what: str, options: Mapping[str, Any]) -> Path:
        """A place for what is made of these pairs, by their content and the options."""
        from prefine.cache import cache_folder

        what_of = (__version__, self._open().fingerprint, self._options, what, sorted(options.items()))
        folder = cache_folder() / "preferences"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{what}-{hashlib.sha256(repr(what_of).encode()).hexdigest()[:24]}"

    def _through(self, command: Any, options: Mapping[str, Any], seed: int | None = None) -> Preferences:
        """What a command makes of these pairs, kept in the cache unless it writes elsewhere or reads a model too.

        Raises:
            ConfigError: source or output, which are these pairs and the result.
        """
        for name in ("source", "output"):
            if name in options:
                raise ConfigError(f"{command.__name__}: {name} is given by the pairs themselves; .save() writes what comes of it")
        path = self._cache(command.__name__, {**options, "seed": seed}).with_suffix(".jsonl")
        reasons = path.with_suffix(".json")
        if not reasons.exists() or {"rejected", "model"} & set(options):
            given = {"source": self.files()} | dict(options) | ({} if seed is None else {"seed": seed})
            write_json(reasons, command(**given, output=str(path)).dropped)
        left_out = _sum(self.dropped, read_json(reasons))
        name = f"{command.__name__.removesuffix('_rows')} of {self._name or self._open().name}"
        return Preferences([str(path)], READ_PLAINLY | {"seed": 0}, left_out, name)

    def _lines(self) -> list[str]:
        read = self.summary()
        left = [f"left out on the way: {counted(self._left_out)}"] if self._left_out else []
        return [f"{self._name or read['source']}: {describe(read)}", *left, *reading_lines(read)]

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        from itertools import islice

        from prefine.api.reading import shown_text

        names = ["prompt", "completion", "label"] if self.labelled else ["prompt", "chosen", "rejected"]
        first = map(canonical, islice(iter(self._open()), 3))
        rows = [[str(v) if isinstance(v := row[name], bool) else shown_text(v, 200) for name in names] for row in first]
        return lines_html(self._lines()) + Table(names, rows)._repr_html_()


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Counts of both; a reason may stand in either."""
    return dict(Counter(one) + Counter(other))


def load_preferences(
    sources: Any,
    *,
    format: str | None = None,
    map: Any = None,
    pairing: str = "best-vs-worst",
    min_gap: float = 0.0,
    seed: int = 0,
) -> Preferences:
    """Preference pairs from any source and format.

    Args:
        sources: a file, folder, glob, Hub id or database, or several of them; a list of rows or a ``datasets.Dataset`` is written
            into the cache first.
        format: of the data; found from its rows where None.
        map: columns by another name, ``{"prompt": "question"}``.
        pairing: ranked responses to pairs: best-vs-worst, best-vs-random, adjacent or all.
        min_gap: minimum difference of scores in a pair made of ranked responses.
        seed: of random choices.

    Raises:
        MissingFile, DataError, ConfigError: nothing there, not readable, or unknown options.
    """
    if isinstance(sources, str | Path):
        names = [str(sources)]
    elif isinstance(sources, list | tuple) and sources and all(isinstance(s, str | Path) for s in sources):
        names = [str(s) for s in sources]
    else:
        names = [str(_write_rows(sources))]
    if isinstance(map, dict):
        map = [f"{ours}={theirs}" for ours, theirs in map.items()] or None
    options = {"format": format, "map": map}
    return Preferences(names, options | {"pairing": pairing, "min_gap": min_gap, "seed": seed})


def files_of(given: Any) -> list[str]:
    """Sources by name for what was given as data: Preferences, datasets, rows, paths, or a list of some of them.

    Raises:
        ConfigError: something else.
    """
    if isinstance(given, Preferences):
        return given.files()
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given and all(isinstance(g, str | Preferences) for g in given):
        return [name for g in given for name in files_of(g)]
    return [str(_write_rows(given))]


def _write_rows(rows: Any) -> Path:
    """Rows that are in memory, as a file in the cache under their content."""
    from prefine.cache import cache_folder
    from prefine.runs import write_text

    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a pandas DataFrame
        rows = rows.to_dict("records")
    listed = list(rows) if hasattr(rows, "__iter__") else []
    if not listed or not all(isinstance(row, Mapping) for row in listed):
        raise ConfigError("expected the name of a source, or rows that are mappings")
    text = "".join(to_json(dict(row), marked=False, ensure_ascii=False) + "\n" for row in listed)
    folder = cache_folder() / "preferences"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rows-{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:24]}.jsonl"
    if not path.exists():
        write_text(path, text)
    return path
