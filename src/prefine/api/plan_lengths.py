"""Lengths of data that its trainer encodes itself: some rows are encoded ahead, to know how long they are."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefine.planning.lengths import Lengths

SAMPLE = 256
"""Rows that are encoded, drawn with a seed."""


def _some(rows: Sequence[Any]) -> Sequence[Any]:
    return rows if len(rows) <= SAMPLE else random.Random(0).sample(list(rows), SAMPLE)


def example_lengths(rows: Sequence[Any], args: Any, tokenizer: Any) -> Lengths:
    """Those of SFT's examples."""
    from prefine.planning.lengths import Lengths
    from prefine.training.prepared import flat
    from prefine.training.sft import encoded

    some = _some(rows)
    groups = flat(list(itertools.islice(encoded(some, args, tokenizer), 4 * SAMPLE)))
    found = Lengths.of(groups)
    return Lengths(found.shapes, max(1, len(groups) * len(rows) // len(some)))


def prompt_lengths(command: str, prompts: Sequence[Any], args: Any, tokenizer: Any) -> Lengths:
    """Those of prompts with responses of the full length: as many as are sampled, or the pair that is learned from."""
    from prefine.planning.lengths import Lengths

    encoder = args.encoder(tokenizer)
    completions = (args.response_length,) * (2 if command == "online-dpo" else args.num_samples)
    shapes = [(len(encoder.prompt_ids(q.prompt, q.tools, q.template_kwargs)), completions) for q in _some(prompts)]
    limit = args.max_length and args.max_length - args.response_length
    fitting = [s for s in shapes if s[0] and (not limit or s[0] <= limit)]
    return Lengths(tuple(fitting or shapes), len(prompts))
