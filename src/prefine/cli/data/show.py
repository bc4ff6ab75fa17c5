"""``prefine data show``: what a source of preference data, or of examples, holds, and what a model would be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefine.cli.data.reading import SourceOptions, dropped_text, read_options, reading_lines, shown_text
from prefine.errors import ConfigError, printable
from prefine.preferences.convert import answers_of
from prefine.preferences.examples import ExampleSource
from prefine.preferences.ranking import to_pairs
from prefine.preferences.records import Dropped, Example, Labelled, Pair, Ranked, Record

if TYPE_CHECKING:
    from prefine.packing.group import PromptGroup

STYLES = {"prompt": "cyan", "trained": "bold green", "skipped": "yellow"}
"""How tokens are shown on a terminal; without colours they stand in brackets of three kinds."""
BRACKETS = {"prompt": "⟨⟩", "trained": "[]", "skipped": "{}"}


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


def main(argv: list[str]) -> int:
    """Print format, counts, drops by reason and a few records."""
    given = read_options(ShowOptions, "show", "Detects the format and counts what is usable.", argv)
    if given is None:
        return 0
    if given.tokens != (given.model is not None):
        raise ConfigError("data show: --tokens and --model go together")
    encoder = _encoder(given) if given.model else None
    source = ExampleSource(given.sources, given.reading())
    shown: list[Record] = []
    counts = {Pair: 0, Ranked: 0, Labelled: 0, Example: 0}
    made = answered = 0
    for item in source.records():
        if isinstance(item, Dropped):
            source.dropped[item.reason].append(item.number)
            continue
        counts[type(item)] += 1
        answered += isinstance(item, Example) and item.answer is not None
        if isinstance(item, Ranked):
            made += len(to_pairs(item, given.pairing, given.min_gap, given.seed))
        if len(shown) < given.rows:
            shown.append(item)
    what = [f"{counts[Pair]} usable pairs"] if counts[Pair] or not sum(counts.values()) else []
    if counts[Ranked]:
        what.append(f"{counts[Ranked]} prompts with ranked answers, which make {made} pairs {given.pairing}")
    if counts[Labelled]:
        what.append(f"{counts[Labelled]} labelled answers")
    if counts[Example]:
        what.append(f"{answered} prompts with an answer, {counts[Example] - answered} without (no preference data: for sft, generate, ppo)")
    read = source.summary()
    print(f"{source.name}: {source.format}, {source.rows} rows, {', '.join(what)}; dropped: {dropped_text(read['dropped'])}")
    for line in reading_lines(read):
        print(printable(line))
    for record in shown:
        print(f"\n--- row {record.row}")
        for name, value in zip(names_of(record), (record.prompt, *answers_of(record)), strict=True):
            print(f"{name:>9}: {shown_text(value)}")
        if record.tools:
            print(f"{'tools':>9}: {printable(', '.join(_tool_name(t) for t in record.tools))}")
        if encoder is not None:
            _show_tokens(encoder, record)
    return 0


def _tool_name(tool: Any) -> str:
    function = tool.get("function", tool) if isinstance(tool, dict) else {}
    return str(function.get("name", tool)) if isinstance(function, dict) else str(tool)


def names_of(record: Record) -> list[str]:
    """What to call a record's prompt and answers."""
    if isinstance(record, Pair):
        return ["prompt", "chosen", "rejected"]
    if isinstance(record, Labelled):
        return ["prompt", "wanted" if record.label else "unwanted"]
    if isinstance(record, Ranked):
        return ["prompt", *(f"{score:g}" for score in record.scores)]
    return ["prompt", *(["answer"] if record.answer is not None else [])]


def _encoder(given: ShowOptions) -> Any:
    from prefine.packing.encoding import Encoder
    from prefine.scoring.loading import load_tokenizer

    assert given.model is not None
    return Encoder(load_tokenizer(given.model, given.trust_remote_code, given.chat_template_kwargs))


def _show_tokens(encoder: Any, record: Record) -> None:
    """What a trainer would be given of the record."""
    from prefine.packing.group import weights_of
    from prefine.packing.rendering import LeftOut

    encoder = encoder.fresh()
    answers = list(answers_of(record))
    if record.prompt == "" and isinstance(record, Example):
        _print_tokens(encoder, "text", [(encoder.encode_text(str(record.answer), record.row)[0].completion_ids[0].tolist(), "trained")])
        return
    if not answers:
        try:
            ids = encoder.prompt_ids(record.prompt, record.tools, record.template_kwargs).tolist()
        except LeftOut as left:
            print(f"   tokens: dropped: {printable(left.reason)}")
        else:
            _print_tokens(encoder, "prompt", [(ids, "prompt")])
        return
    group: PromptGroup | None = encoder.encode(record.prompt, answers, record.row, record.tools, record.template_kwargs)
    if group is None:
        print(f"   tokens: dropped: {printable(', '.join(encoder.report.dropped))}")
        return
    _print_tokens(encoder, "prompt", [(group.prompt_ids.tolist(), "prompt")])
    weights = weights_of(group)
    for name, ids in zip(names_of(record)[1:], group.completion_ids, strict=True):
        own, weights = weights[: len(ids)], weights[len(ids) :]
        _print_tokens(
            encoder, name, [([token], "trained" if counts else "skipped") for token, counts in zip(ids.tolist(), own, strict=True)]
        )
    for note in encoder.report.notes:
        print(printable(f"  changed: {note}"))


def _print_tokens(encoder: Any, name: str, runs: Sequence[tuple[list[int], str]]) -> None:
    """A line of tokens, each as the tokenizer decodes it, coloured by what becomes of it; under it the ids."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    marked = console.is_terminal and not console.no_color
    line, kinds = Text(f"{name:>9}: "), dict.fromkeys(kind for _, kind in runs)
    last = ""
    for ids, kind in runs:
        if not marked and kind != last:
            line.append(BRACKETS[last][1] if last else "").append(BRACKETS[kind][0])
        last = kind
        for token in ids:
            line.append(_visible(encoder.tokenizer.decode([token])), style=STYLES[kind] if marked else "")
            line.append("·" if marked else "|", style="dim" if marked else "")
    if not marked and last:
        line.append(BRACKETS[last][1])
    console.print(line)
    legend = {"prompt": "prompt", "trained": "trained on", "skipped": "not trained on (not the model's own turn)"}
    said = ", ".join(f"{BRACKETS[kind][0]}{BRACKETS[kind][1]} {legend[kind]}" for kind in kinds)
    ids_text = " ".join(str(token) for ids, _ in runs for token in ids)
    console.print(
        f"{'':>9}  {sum(len(ids) for ids, _ in runs)} tokens{'' if marked else f'; {said}'}: {ids_text}", style="dim", markup=False
    )


def _visible(text: str) -> str:
    return printable(text.replace("\n", "⏎").replace("\t", "⇥")) if text else "∅"
