"""Blocks of a source to parts, over all cores, with bounded memory, in order."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prefine.audit.part import Part, PartMaker, Sampling
from prefine.audit.tokens import TokenCounter
from prefine.cluster import ClusterOptions, Workers
from prefine.errors import DataError
from prefine.packing.encoding import Encoder
from prefine.preferences.blocks import Block
from prefine.preferences.convert import PEEK_ROWS, Converter, Reading, find_converter
from prefine.preferences.formats import format_named
from prefine.preferences.source import Numbering, local_files
from prefine.processes import by_workers

INLINE_BLOCKS = 6
"""A source with no more blocks than this is done here: starting workers would take longer."""
SAMPLE_RECORDS = 12_000
"""About how many records' texts are kept for the word probe."""


@dataclass(frozen=True)
class Tokenization:
    """A tokenizer as plain data, so that a worker needs neither the model's folder nor torch."""

    backend: str
    template: str | None
    special: dict[str, str]
    ends: tuple[str, ...]
    common_from: int
    template_kwargs: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, tokenizer: Any, common_from: int) -> Tokenization:
        """From a loaded fast tokenizer."""
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        added = [str(t) for t in getattr(tokenizer, "added_tokens_decoder", {}).values()]
        ends = tuple(t for t in dict.fromkeys([*map(str, tokenizer.all_special_tokens), *added]) if t)
        kwargs = tuple(Encoder(tokenizer).renderer.template_kwargs.items())
        return cls(tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, special, ends, common_from, kwargs)

    def counter(self) -> TokenCounter:
        """A token counter."""
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        backend = Tokenizer.from_str(self.backend)
        backend.no_truncation()
        backend.no_padding()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=self.template, **self.special)
        return TokenCounter(Encoder(tokenizer, template_kwargs=dict(self.template_kwargs)), self.ends, self.common_from)


@dataclass(frozen=True)
class Job:
    """What a worker needs to make parts."""

    source: str
    format: str
    reading: Reading
    tokenization: Tokenization | None
    near: bool
    sampling: Sampling

    def maker(self) -> PartMaker:
        """A maker of parts."""
        counter = self.tokenization.counter() if self.tokenization else None
        converter = Converter(format_named(self.format), self.source, self.reading.columns)
        return PartMaker(converter, self.reading, counter, self.near, self.sampling)


_maker: PartMaker | None = None


def _start(job: Job) -> None:
    global _maker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the cores are taken by the workers
    _maker = job.maker()


def _make(task: tuple[Block, int]) -> Part:
    assert _maker is not None
    return _maker.of_block(*task)


def parts(
    source: str,
    reading: Reading,
    tokenization: Tokenization | None,
    near: bool,
    processes: int | None,
    numbering: Numbering,
    cluster: ClusterOptions | None = None,
) -> Iterator[Part]:
    """A source's parts in order.

    Raises:
        DataError: the source is empty, unreadable, or of no known format.
    """
    stream = numbering.blocks(source)
    first = list(itertools.islice(stream, INLINE_BLOCKS))
    head = [row for block, _ in first[:2] for _, row in itertools.islice(block.rows(), PEEK_ROWS)][:PEEK_ROWS]
    if not head:
        raise DataError(f"{source}: empty, no rows to read", code="PF-D03")
    converter = find_converter(head, source, reading)
    sampling = Sampling(_sample_share(source, [block for block, _ in first]), reading.seed)
    job = Job(source, converter.format.name, reading, tokenization, near, sampling)
    everything = itertools.chain(first, stream)
    workers = processes or os.cpu_count() or 1
    if converter.format.gather is not None:
        yield from _gathered(everything, job)
    elif cluster is not None and cluster.ray is not None:
        died = f"{source}: a worker of the cluster was lost (out of memory?); try fewer with --ray-workers"
        with Workers(cluster, _start, (job,), died) as pool:
            yield from pool.map(_make, everything)
    elif len(first) < INLINE_BLOCKS or workers == 1:
        maker = job.maker()
        yield from (maker.of_block(block, before) for block, before in everything)
    else:
        died = f"{source}: a worker process died (out of memory?); try --processes 1"
        yield from by_workers(_make, everything, workers, _start, (job,), died)


def _gathered(stream: Iterator[tuple[Block, int]], job: Job) -> Iterator[Part]:
    """Formats that spread a prompt over rows: a run may cross blocks, so they are converted here, in one stream."""
    maker = job.maker()
    part = Part()

    def rows() -> Iterator[tuple[int, Any]]:
        for block, before in stream:
            for number, row in block.rows():
                part.rows += 1
                yield before + number, row

    items = maker.converter.convert(rows())
    while chunk := list(itertools.islice(items, 1000)):
        maker.fill(part, chunk)
        yield part
        part = Part()


def _sample_share(source: str, first: list[Block]) -> float:
    """The share of records to keep so that about :data:`SAMPLE_RECORDS` are, by the size of files of lines; else all, thinned later."""
    sizes = [len(b.content) for b in first if isinstance(b.content, bytes)]
    if not sizes or source.startswith(("sqlite:", "postgresql")):
        return 1.0
    rows = sum(b.content.count(b"\n") + 1 for b in first if isinstance(b.content, bytes))
    # gz grows by about four
    total = sum(f.stat().st_size * (4 if f.suffix == ".gz" else 1) for f in local_files(source) or [] if f.is_file())
    return min(1.0, SAMPLE_RECORDS / max(1.0, total * rows / max(1, sum(sizes))))
