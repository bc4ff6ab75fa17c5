"""Datasets as prompt groups: rows in memory at once, streams as they come, and rows that are token ids already."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from prefine.errors import DataError
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup, WeightedGroup, as_ids
from prefine.preferences.formats.implicit import common_length

Encode: TypeAlias = Callable[[Iterator[Any], str, Encoder], Iterator[Any]]
"""Rows from the first on, what to call them, and the encoder that counts; gives groups."""
TRUNCATED = ("prompts", "responses", "texts")
IMAGES = ("image", "images", "video", "videos", "audio", "audios")


class DataWarning(UserWarning):
    """Rows of a dataset were left out or truncated."""


class StreamedGroups(IterableDataset[PromptGroup]):
    """Groups of a stream, encoded as they are asked for.

    Args:
        rows: what is iterated: a ``datasets.IterableDataset``, or anything that can be iterated more than once.
        check: sees each group before it is given.
        endless: begin the stream anew where it ends, so that a run is one pass to transformers, and a resumed one skips as much.
    """

    def __init__(self, rows: Any, name: str, encoder: Encoder, encode: Encode, check: Callable[[Any], None], endless: bool) -> None:
        self.rows = rows
        self.name = name
        self.encoder = encoder
        self.encode = encode
        self.check = check
        self.endless = endless
        self.said = False

    def say_losses(self) -> None:
        """Warn of what was left out, once."""
        if not self.said:
            self.said = True
            say_losses(self.name, self.encoder)

    def __iter__(self) -> Iterator[Any]:
        for turn in itertools.count() if self.endless else range(1):
            if hasattr(self.rows, "set_epoch"):
                self.rows.set_epoch(turn)  # what is shuffled is shuffled anew
            encoder = self.encoder if turn == 0 else self.encoder.fresh()
            some = False
            for group in self.encode(iter(self.rows), self.name, encoder):
                self.check(group)
                some = True
                yield group
            if not some:
                raise DataError(f"{self.name}: no row is left: {encoder.report.left_out()}", code="PF-D04")
            if turn == 0:
                self.say_losses()


class LazyGroups(Dataset[PromptGroup]):
    """Groups of rows that are read anew each time they are asked for: a transform of the dataset may give others each epoch."""

    def __init__(self, rows: Any, encode: Callable[[Mapping[str, Any], int], PromptGroup]) -> None:
        self.rows = rows
        self.encode = encode

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> PromptGroup:
        return self.encode(self.rows[place], place + 1)


class Block:
    """Groups that make one item of a batch together: a packed sequence."""

    def __init__(self, groups: Sequence[PromptGroup]) -> None:
        self.groups = tuple(groups)

    @property
    def index(self) -> int:
        """The first group's row."""
        return self.groups[0].index

    def columns(self) -> dict[str, list[int]]:
        """The groups' columns end to end, and ``seq_lengths``."""
        parts = [group.columns() for group in self.groups]
        out = {name: [i for part in parts for i in part[name]] for name in parts[0]}
        return out | {"seq_lengths": [len(part["input_ids"]) for part in parts]}

    def __getitem__(self, name: str) -> list[int]:
        return self.columns()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns()


class Groups(list[Any]):
    """Groups, or blocks of them, that can be looked at as a prepared dataset of TRL's: a column by its name."""

    @property
    def column_names(self) -> list[str]:
        """The columns of each item."""
        return list(self[0].columns()) if self else []

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, str):
            return [item[place] for item in self]
        found = super().__getitem__(place)
        return Groups(found) if isinstance(place, slice) else found


def flat(items: Any) -> Any:
    """Groups, of items that are groups or blocks of them."""
    if len(items) and isinstance(items[0], Block):
        return [group for block in items for group in block.groups]
    return items


def is_stream(dataset: Any) -> bool:
    """Whether a dataset is read as it comes, pass by pass: torch's IterableDataset, or that of the library datasets."""
    return any(kind.__name__ == "IterableDataset" for kind in type(dataset).__mro__)


def in_memory(dataset: Any) -> Any:
    """A dataset as it is; what can be iterated only once as a list."""
    return dataset if is_stream(dataset) or hasattr(dataset, "__len__") else list(dataset)


def are_groups(dataset: Any) -> bool:
    """Whether a dataset was prepared before."""
    if isinstance(dataset, StreamedGroups | LazyGroups):
        return True
    return isinstance(dataset, Sequence) and len(dataset) > 0 and isinstance(dataset[0], PromptGroup | Block)


def refuse_images(row: Any) -> None:
    """Refuse data of images, which would train as if they were not there.

    Raises:
        DataError: the row has a filled column of them.
    """
    filled = [name for name in IMAGES if isinstance(row, Mapping) and row.get(name) is not None and len(row[name] or ()) > 0]
    if filled:
        raise DataError(f"the dataset has {', '.join(filled)}: only text is trained on; take the column out to train on the words alone")


def with_first(rows: Iterable[Any], name: str) -> tuple[Any, Iterator[Any]]:
    """The first row, and all rows with it.

    Raises:
        DataError: there is none.
    """
    rest = iter(rows)
    first = next(rest, None)
    if first is None:
        raise DataError(f"{name} is empty", code="PF-D03")
    refuse_images(first)
    return first, itertools.chain([first], rest)


def prepare_rows(dataset: Any, name: str, encoder: Encoder, encode: Encode) -> Groups:
    """All groups of a dataset at once; what was left out is a warning.

    Raises:
        DataError: it is empty, or nothing is left.
    """
    groups = Groups(encode(iter(dataset), name, encoder))
    if not groups:
        raise DataError(f"{name}: no row is left after encoding: {encoder.report.left_out()}", code="PF-D04")
    say_losses(name, encoder)
    return groups


def say_losses(name: str, encoder: Encoder) -> None:
    """Warn of rows that were dropped and texts that were truncated, with counts and reasons."""
    report = encoder.report
    lost = [f"{len(rows)} dropped: {reason}" for reason, rows in report.dropped.items()]
    lost += [f"{report.cut[what]} {what} truncated" for what in TRUNCATED if report.cut[what]]
    lost += [f"{note} ({count})" for note, count in report.notes.items()]
    if lost:
        warnings.warn(f"{name}: {report.pairs} kept; {'; '.join(lost)} (trainer.data_report lists the rows)", DataWarning, stacklevel=2)


# ---- token ids


def is_pretokenized(row: Any) -> bool:
    """Whether a row holds token ids in TRL's columns."""
    return isinstance(row, Mapping) and ("input_ids" in row or ({"chosen_ids", "rejected_ids"} <= row.keys()) or _is_old(row))


def _is_old(row: Mapping[str, Any]) -> bool:
    return {"chosen_input_ids", "rejected_input_ids"} <= row.keys()


def pretokenized_pair(row: Mapping[str, Any], number: int, encoder: Encoder) -> PromptGroup | None:
    """A pair's group of ``prompt_ids``, ``chosen_ids``, ``rejected_ids``; without ``prompt_ids`` both sides are whole and their
    common beginning is the prompt. Too long ones are truncated or dropped as texts are. None where the encoder's report says why not.
    """
    if _is_old(row):
        warnings.warn(
            "chosen_input_ids and rejected_input_ids are old names of chosen_ids and rejected_ids, and will not be supported in v1 of TRL",
            FutureWarning,
            stacklevel=2,
        )
        row = {"chosen_ids": row["chosen_input_ids"], "rejected_ids": row["rejected_input_ids"]}
    prompt, sides = list(row.get("prompt_ids") or ()), [list(row["chosen_ids"]), list(row["rejected_ids"])]
    if "prompt_ids" not in row:
        same = min(common_length(*sides), min(map(len, sides)) - 1)
        prompt, sides = sides[0][:same], [ids[same:] for ids in sides]
    return encoder.encode_ids(prompt, sides, number)


def pretokenized_text(row: Mapping[str, Any], number: int, encoder: Encoder, completion_only: bool) -> PromptGroup | None:
    """A sequence's group of ``input_ids`` and what says which of them count: ``labels`` (-100 does not), else ``completion_mask`` and
    ``assistant_masks``. None where the encoder's report says why not.

    Args:
        completion_only: whether ``completion_mask`` is looked at.
    """
    encoder.check_ids()
    ids = as_ids(row["input_ids"])
    counts = np.ones(len(ids), np.float32)
    if row.get("labels") is not None:
        counts = (np.asarray(row["labels"]) != -100).astype(np.float32)
    else:
        for name in ("assistant_masks", *(["completion_mask"] if completion_only else [])):
            if row.get(name) is not None:
                counts = counts * np.asarray(row[name], np.float32)
    return counted_text(ids, counts, number, encoder)


def counted_text(ids: Any, counts: Any, number: int, encoder: Encoder) -> PromptGroup | None:
    """A whole sequence of which ``counts`` (1 or 0 for each token) are trained on, truncated as the encoder does; None where the
    encoder's report says why not.
    """
    kept = encoder.cut_text(ids, number)
    if kept is None:
        return None
    group = counted_group(ids[kept], counts[kept], number)
    if group is None:
        cut = len(ids[kept]) < len(ids)
        encoder.report.dropped.setdefault("nothing of it is trained on" + (" once truncated" if cut else ""), []).append(number)
        return None
    encoder.report.pairs += 1
    return group


def counted_group(ids: Any, counts: Any, number: int) -> PromptGroup | None:
    """A sequence as a group whose first token is the prompt; None where nothing of the rest counts."""
    if not counts[1:].any():
        return None
    if counts[1:].all():
        return PromptGroup(np.ascontiguousarray(ids[:1]), (np.ascontiguousarray(ids[1:]),), number)
    return WeightedGroup(np.ascontiguousarray(ids[:1]), (np.ascontiguousarray(ids[1:]),), number, None, np.ascontiguousarray(counts[1:]))
