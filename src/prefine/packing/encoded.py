"""A source of preference data to a group store on disk, once: the next run with the same content finds it there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefine.cache import cache_folder
from prefine.checkpoints import storing
from prefine.packing.checksum import is_whole, keep, kept
from prefine.packing.encoding import Encoder
from prefine.packing.spread import encode_spread, of_labelled
from prefine.packing.store import GroupStore
from prefine.preferences.convert import PairSource
from prefine.preferences.labels import LabelledSource
from prefine.runs import read_json, write_json


@dataclass(frozen=True)
class Encoded:
    """An encoded source.

    Attributes:
        groups: the usable pairs' groups.
        data: what reading did, as :meth:`PairSource.summary` gives it.
        encoding: what encoding did, as ``EncodingReport.summary`` gives it.
        reused: whether it was found in the cache.
    """

    groups: GroupStore
    data: dict[str, Any]
    encoding: dict[str, Any]
    reused: bool

    @property
    def key(self) -> str:
        """What the data is known by: content, reading, tokenizer, template and limits."""
        return self.groups.folder.name


def encode_source(pairs: PairSource, encoder: Encoder, folder: Path | None = None, processes: int | None = None) -> Encoded:
    """Encode a source's pairs, or find them already encoded.

    The key is the source's content and how it is read, and the encoder's tokenizer, template
    and limits; neither names nor dates count.

    Args:
        processes: that encode a large source; None for one a core.

    Raises:
        PrefineError: the source or its rows do not fit.
    """
    key = hashlib.sha256(f"{pairs.fingerprint} {encoder.fingerprint()}".encode()).hexdigest()[:24]
    place = (folder or cache_folder() / "encoded") / key
    reused = is_whole(place)
    if not reused:
        shutil.rmtree(place, ignore_errors=True)
        groups = encode_spread(pairs, encoder, processes, of_labelled if isinstance(pairs, LabelledSource) else None)
        with storing(f"the encoded data in {place.parent}"):
            GroupStore.write(place, groups, lambda: {"data": pairs.summary(), "encoding": encoder.report.summary()})
    store = GroupStore(place)
    about = store.about
    return Encoded(store, about["data"] | {"source": pairs.name}, about["encoding"], reused)


def remembered(name: str, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result known by the content it came from: read from the cache, or made and kept there."""
    path = cache_folder() / name / f"{key}.json"
    found = kept(path)
    if found is not None:
        return dict(read_json(found))
    made = make()
    keep(path, lambda temporary: write_json(temporary, made))
    return made
