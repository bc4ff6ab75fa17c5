"""Without duplicates, exact or near."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.selecting import SelectOptions, Written, select, settle_output
from prefine.errors import ConfigError
from prefine.preferences.convert import answers_of
from prefine.preferences.draws import prompt_text_key, record_key
from prefine.preferences.records import Dropped, Labelled, Record, plain_text


@dataclass
class DedupOptions(SelectOptions):
    """Options of ``prefine data dedup``."""

    prompts: bool = field(default=False, metadata={"help": "Keep one record a prompt, not only one of equal records."})
    near: float | None = field(
        default=None,
        metadata={"help": "Also leave out prompts that share this much of their words and pairs of words with an earlier one (0.5)."},
    )


@call(DedupOptions, positional=("source",), rest=True)
def dedup(given: DedupOptions, progress: Progress) -> Written:
    """Keep the first of equal records (case, white space and end marks aside).

    Raises:
        PrefineError: a source that cannot be read, or of which nothing is left.
    """
    if given.near is not None and not 0.3 <= given.near <= 1:
        raise ConfigError(f"--near is {given.near}; expected 0.3 to 1", code="PF-C03")
    settle_output(given, "dedup")
    far = _near_twins(given) if given.near is not None else set()
    seen: set[int] = set()

    def reason(record: Record) -> str | None:
        label = (str(record.label),) if isinstance(record, Labelled) else ()  # the same response with the other label is no duplicate
        key = prompt_text_key(record) if given.prompts else record_key(record, (*answers_of(record), *label))
        if key in seen:
            return "same prompt as an earlier row" if given.prompts else "same as an earlier row"
        seen.add(key)
        return "prompt nearly that of an earlier row" if prompt_text_key(record) in far else None

    return select(given, "dedup", reason)


def _near_twins(given: DedupOptions) -> set[int]:
    """Keys of prompts that are near to an earlier, other prompt: a first pass over the source."""
    import numpy as np

    from prefine.preferences.near import SignatureFile, near_groups, signatures

    source, held, order, batch = given.pairs(), SignatureFile(), [], []
    known: set[int] = set()
    for item in source.records():
        if isinstance(item, Dropped) or prompt_text_key(item) in known:
            continue
        order.append(prompt_text_key(item))
        known.add(order[-1])
        batch.append(plain_text(item.prompt))
        if len(batch) == 4096:
            held.add(signatures(batch))
            batch = []
    held.add(signatures(batch))
    assert given.near is not None
    first = near_groups(held.read(), given.near)
    return {order[i] for i in np.flatnonzero(first != np.arange(len(first)))}
