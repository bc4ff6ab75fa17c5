"""What a source of preference data, or of examples, holds, and what a model would be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.reading import SourceOptions, dropped_text, reading_lines, shown_text
from prefine.api.tables import lines_html
from prefine.errors import ConfigError, printable
from prefine.preferences.convert import answers_of
from prefine.preferences.examples import ExampleSource
from prefine.preferences.ranking import to_pairs
from prefine.preferences.records import Dropped, Example, Labelled, Pair, Ranked, Record

if TYPE_CHECKING:
    from prefine.packing.group import PromptGroup


@dataclass
class ShowOptions(SourceOptions):
    """Options of ``prefine data show``."""

    rows: int = field(default=2, metadata={"help": "How many records to print."})
    model: str | None = field(
        default=None, metadata={"help": "Model whose tokenizer and chat template --tokens uses: a folder or a Hub id."}
    )
    tokens: bool = field(default=False, metadata={"help": "Show the ids, decoded: prompt, response, and what of it is trained on."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


Run = tuple[Sequence[int], str]
"""Ids, and what becomes of them: ``prompt``, ``trained`` or ``skipped``."""


@dataclass
class TokenLine:
    """A part of a record as a trainer would be given it."""

    name: str
    runs: Sequence[Run]
    tokenizer: Any

    def pieces(self) -> list[tuple[str, str]]:
        """Each token as the tokenizer decodes it, untrusted, with what becomes of it."""
        return [(_visible(self.tokenizer.decode([token])), kind) for ids, kind in self.runs for token in ids]

    def ids(self) -> list[int]:
        """All ids."""
        return [token for ids, _ in self.runs for token in ids]


@dataclass
class Shown:
    """What a source holds: the format and counts, and records with their tokens, a line each."""

    lines: Sequence[str | TokenLine]

    def __str__(self) -> str:
        return "\n".join(line if isinstance(line, str) else f"{line.name:>9}: {line.ids()}" for line in self.lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return lines_html(str(self).split("\n"))


@call(ShowOptions, positional=("source",), rest=True)
def show(given: ShowOptions, progress: Progress) -> Shown:
    """Detect a source's format, count what is usable, show a few records.

    Raises:
        PrefineError: a source or a model that cannot be read.
    """
    if given.tokens != (given.model is not None):
        raise ConfigError("data show: --tokens and --model go together")
    encoder = _encoder(given) if given.model else None
    source = ExampleSource(given.sources, given.reading())
    source.opinions_first = True
    shown: list[Record] = []
    counts = {Pair: 0, Ranked: 0, Labelled: 0, Example: 0}
    made = answered = wanted = 0
    for item in source.records():
        if isinstance(item, Dropped):
            source.dropped[item.reason].append(item.number)
            continue
        counts[type(item)] += 1
        answered += isinstance(item, Example) and item.answer is not None
        wanted += isinstance(item, Labelled) and item.label
        if isinstance(item, Ranked):
            made += len(to_pairs(item, given.pairing, given.min_gap, given.seed))
        if len(shown) < given.rows:
            shown.append(item)
    what = [f"{counts[Pair]} usable pairs"] if counts[Pair] or not sum(counts.values()) else []
    if counts[Ranked]:
        what.append(f"{counts[Ranked]} prompts with ranked responses, which make {made} pairs {given.pairing}")
    if counts[Labelled]:
        what.append(f"{counts[Labelled]} labelled responses, {wanted} of them wanted")
    if counts[Example]:
        what.append(
            f"{answered} prompts with a response, {counts[Example] - answered} without (not preference data: for sft, generate, ppo)"
        )
    read = source.summary()
    lines: list[str | TokenLine] = [
        f"{source.name}: {source.format}, {source.rows} rows, {', '.join(what)}; dropped: {dropped_text(read['dropped'])}"
    ]
    lines += [printable(line) for line in reading_lines(read)]
    for record in shown:
        lines.append(f"\n--- row {record.row}")
        for name, value in zip(names_of(record), (record.prompt, *answers_of(record)), strict=True):
            lines.append(f"{name:>9}: {shown_text(value)}")
        if record.tools:
            lines.append(f"{'tools':>9}: {printable(', '.join(_tool_name(t) for t in record.tools))}")
        if encoder is not None:
            lines += _token_lines(encoder, record)
    return Shown(lines)


def _tool_name(tool: Any) -> str:
    function = tool.get("function", tool) if isinstance(tool, dict) else {}
    return str(function.get("name", tool)) if isinstance(function, dict) else str(tool)


def names_of(record: Record) -> list[str]:
    """What to call a record's prompt and responses."""
    if isinstance(record, Pair):
        return ["prompt", "chosen", "rejected"]
    if isinstance(record, Labelled):
        return ["prompt", "wanted" if record.label else "unwanted"]
    if isinstance(record, Ranked):
        return ["prompt", *(f"{score:g}" for score in record.scores)]
    return ["prompt", *(["response"] if record.answer is not None else [])]


def _encoder(given: ShowOptions) -> Any:
    from prefine.packing.encoding import Encoder
    from prefine.scoring.loading import load_tokenizer

    assert given.model is not None
    return Encoder(load_tokenizer(given.model, given.trust_remote_code, given.chat_template_kwargs))


def _token_lines(encoder: Any, record: Record) -> list[str | TokenLine]:
    """What a trainer would be given of the record."""
    from prefine.packing.group import weights_of
    from prefine.packing.rendering import LeftOut

    encoder = encoder.fresh()

    def line(name: str, runs: Sequence[Run]) -> TokenLine:
        return TokenLine(name, runs, encoder.tokenizer)

    answers = list(answers_of(record))
    if record.prompt == "" and isinstance(record, Example):
        return [line("text", [(encoder.encode_text(str(record.answer), record.row)[0].completion_ids[0].tolist(), "trained")])]
    if not answers:
        try:
            ids = encoder.prompt_ids(record.prompt, record.tools, record.template_kwargs).tolist()
        except LeftOut as left:
            return [f"   tokens: dropped: {printable(left.reason)}"]
        return [line("prompt", [(ids, "prompt")])]
    group: PromptGroup | None = encoder.encode(record.prompt, answers, record.row, record.tools, record.template_kwargs)
    if group is None:
        return [f"   tokens: dropped: {printable(', '.join(encoder.report.dropped))}"]
    out: list[str | TokenLine] = [line("prompt", [(group.prompt_ids.tolist(), "prompt")])]
    weights = weights_of(group)
    for name, ids in zip(names_of(record)[1:], group.completion_ids, strict=True):
        own, weights = weights[: len(ids)], weights[len(ids) :]
        out.append(line(name, [([t], "trained" if counts else "skipped") for t, counts in zip(ids.tolist(), own, strict=True)]))
    return [*out, *(printable(f"  changed: {note}") for note in encoder.report.notes)]


def _visible(text: str) -> str:
    return printable(text.replace("\n", "⏎").replace("\t", "⇥")) if text else "∅"
