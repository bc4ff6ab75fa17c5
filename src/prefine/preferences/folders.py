"""Which files of a folder are read: those of one split of a data set's clone, by its card or its file names; else all."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefine.errors import DataError, nearest

METADATA = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "metadata.json", "config.json")
"""Files beside a data set's rows that look like data."""
SHARD = re.compile(r"^(?P<split>[\w.]+?)-\d{5}-of-\d{5}")
"""How the Hub names a split's files."""
KEYWORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Words in file and folder names that name a split, as ``datasets`` takes them."""


def chosen_files(folder: Path, files: Sequence[Path], config: str | None, split: str | None) -> tuple[list[Path], str]:
    """A folder's files that are read, and what to say of the others.

    Args:
        files: all data files in it.
        config, split: what the user asked for, as in ``folder:config:split``.

    Raises:
        DataError: there are several and nothing says which.
    """
    files = [f for f in files if f.name not in METADATA]
    by_split, how = _by_card(folder, files, config)
    if not by_split:
        if config is not None:
            raise DataError(f"{folder}: no configuration {config!r}: its README.md names none", code="PF-D08")
        by_split, how = _by_names(folder, files), "by their names"
    if not by_split:
        if split is not None:
            raise DataError(f"{folder}: no split {split!r}: its files do not name any", code="PF-D08")
        return files, ""
    wanted = split or ("train" if "train" in by_split else next(iter(by_split)) if len(by_split) == 1 else None)
    if wanted is None:
        raise DataError(f"{folder}: holds the splits {', '.join(by_split)}; say which, as {folder}:{next(iter(by_split))}", code="PF-D08")
    if wanted not in by_split:
        raise DataError(f"{folder}: no split {wanted!r}{nearest(wanted, by_split)}; it holds {', '.join(by_split)}", code="PF-D08")
    left = [name for name in by_split if name != wanted]
    said = f"{folder}: the split {wanted} is read ({how}), not {', '.join(left)}" if left else ""
    return sorted(by_split[wanted]), said


def _by_names(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names tell; nothing where no two splits are told apart."""
    found: dict[str, list[Path]] = defaultdict(list)
    unnamed = []
    for file in files:
        shard = SHARD.match(file.name)
        split = shard["split"] if shard else _keyword(file.relative_to(folder))
        if split is None:
            unnamed.append(file)
        else:
            found[split].append(file)
    if len(found) < 2:
        return {}
    if unnamed:
        names = ", ".join(str(f.relative_to(folder)) for f in unnamed[:4])
        raise DataError(
            f"{folder}: holds the splits {', '.join(found)} and other files ({names}); give the files that are meant", code="PF-D08"
        )
    return found


def _keyword(path: Path) -> str | None:
    for part in reversed(path.parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in KEYWORDS:
                return KEYWORDS[word]
    return None


def _by_card(folder: Path, files: Sequence[Path], config: str | None) -> tuple[dict[str, list[Path]], str]:
    """Files by split as the front matter of the folder's README.md says."""
    configs = _configs(folder)
    if not configs:
        return {}, ""
    names = [str(c.get("config_name", "default")) for c in configs]
    if config is not None and config not in names:
        raise DataError(f"{folder}: no configuration {config!r}{nearest(config, names)}; its card has {', '.join(names)}", code="PF-D08")
    wanted = config or next((str(c["config_name"]) for c in configs if c.get("default") and "config_name" in c), None)
    wanted = wanted or ("default" if "default" in names else names[0] if len(names) == 1 else None)
    if wanted is None:
        raise DataError(
            f"{folder}: its card has the configurations {', '.join(names)}; say which, as {folder}:{names[0]}:train", code="PF-D08"
        )
    chosen = configs[names.index(wanted)]
    data_files, place = chosen.get("data_files"), folder / str(chosen.get("data_dir") or ".")
    if data_files is None and chosen.get("data_dir"):
        inside = [f for f in files if place in f.parents]
        return _by_names(place, inside) or {"train": inside}, "by its card"
    if data_files is None:
        return {}, ""
    found: dict[str, list[Path]] = {}
    for split, patterns in _patterns(data_files):
        listed = [f for f in files if any(_matches(f.relative_to(folder), p) for p in patterns)]
        if listed:
            found.setdefault(split, []).extend(listed)
    if not found:
        raise DataError(f"{folder}: none of the files that its card names is there; the clone may be incomplete (git lfs pull)")
    return found, "by its card"


def _matches(path: Path, pattern: str) -> bool:
    pattern = pattern.removeprefix("./")
    if "**/" in pattern and _matches(path, pattern.replace("**/", "", 1)):
        return True  # two stars match no folder too
    return fnmatch.fnmatch(str(path), pattern) or path == Path(pattern) or Path(pattern) in path.parents


def _patterns(data_files: Any) -> list[tuple[str, list[str]]]:
    if isinstance(data_files, str) or (isinstance(data_files, list) and all(isinstance(p, str) for p in data_files)):
        return [("train", _listed(data_files))]
    if isinstance(data_files, Mapping):
        return [(str(split), _listed(patterns)) for split, patterns in data_files.items()]
    return [(str(d.get("split", "train")), _listed(d.get("path", []))) for d in data_files if isinstance(d, Mapping)]


def _listed(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _configs(folder: Path) -> list[Mapping[str, Any]]:
    card = folder / "README.md"
    if not card.is_file():
        return []
    import yaml

    text = card.read_text(encoding="utf-8", errors="replace")
    parts = text.split("---", 2) if text.startswith("---") else []
    try:
        loaded = yaml.safe_load(parts[1]) if len(parts) == 3 else None
    except yaml.YAMLError:
        return []
    configs = loaded.get("configs") if isinstance(loaded, Mapping) else None
    return [c for c in configs if isinstance(c, Mapping)] if isinstance(configs, list) else []
