"""Prompts with one answer, or with none: the data of SFT, retention, sampling and generation, read as pairs are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefine.errors import ColumnError, DataError, some
from prefine.preferences.convert import Converter, PairSource, Reading, as_pairs
from prefine.preferences.formats import FEEDBACK
from prefine.preferences.formats.format import Format, Row, Skip, is_messages, messages_of, one, refuse_images, side, user, with_input
from prefine.preferences.formats.labelled import LABELLED, is_plainly_labelled, may_be_label
from prefine.preferences.records import Dropped, Example, Labelled, Pair, Ranked, Record

PROMPT_COLUMNS = ("prompt", "question", "instruction", "query", "problem", "input")
ANSWER_COLUMNS = ("completion", "answer", "response", "output", "solution", "chosen")
CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")


def _convert(row: Row, number: int) -> Example:
    refuse_images(row)
    beside = (str(row.get("category") or ""), str(row.get("cluster") or ""))
    whole = next((row[name] for name in CONVERSATION_COLUMNS if is_messages(row.get(name))), None)
    if whole is not None:
        messages = messages_of(whole)
        asked, answer = (messages[:-1], messages[-1:]) if messages[-1]["role"] == "assistant" else (messages, None)
        return Example(asked, answer, number, None, None, *beside, whole=True)
    name = next((name for name in PROMPT_COLUMNS if row.get(name)), None)
    answered = next((column for column in ANSWER_COLUMNS if row.get(column)), None)
    if name is None:
        if not isinstance(row.get("text"), str):
            raise Skip("no prompt")
        return Example("", row["text"], number)
    prompt = with_input(row, row[name])
    value = None if answered is None else row[answered]
    if isinstance(prompt, str) and not (name == "prompt" and answered == "completion" and isinstance(value, str)):
        prompt = [user(prompt)]  # all but TRL's prompt and completion ask in words, and are asked by the chat template
    if isinstance(prompt, str):
        return Example(prompt, value, number, None, None, *beside)
    asked = messages_of(prompt, "prompt is not text")
    return Example(asked, None if value is None else side(value, True), number, None, None, *beside)


def _is_example(row: Row) -> bool:
    return any(is_messages(row.get(c)) for c in CONVERSATION_COLUMNS) or "text" in row or any(row.get(c) for c in PROMPT_COLUMNS)


EXAMPLES = Format(
    "examples",
    "messages; a prompt (prompt, question, instruction) with an answer (completion, answer, response, output) or without; or text alone",
    (),
    _is_example,
    one(_convert),
)


class ExampleSource(PairSource):
    """The examples of one or several sources: of preference data the preferred answers, of other rows those of :data:`EXAMPLES`.

    Attributes:
        opinions_first: whether rows that could be responses with opinions are read as such, also where their columns might be a class, or
            nobody has rated the first of them.
    """

    opinions_first = False

    def find_converter(self, head: Sequence[Row], source: str) -> Converter:
        """What converts a source whose first rows are ``head``.

        Raises:
            ColumnError: neither preference data nor examples.
        """
        try:
            found = super().find_converter(head, source)
            if self.reading.format or not (found.format is LABELLED or found.format in FEEDBACK):
                return found
            if found.format in FEEDBACK and self.opinions_first:
                return found
            rows = [found.rename(number, row) for number, row in enumerate(head, 1)]
            plainly = self.opinions_first or all(map(is_plainly_labelled, rows))
            fits = found.format in FEEDBACK or (plainly and all(map(may_be_label, rows)))
            if fits and any(not isinstance(item, Dropped) for item in found.convert(enumerate(head, 1))):
                return super().find_converter(head, source)
        except ColumnError:
            prompt = self.reading.columns.get("prompt")
            if self.reading.format is not None or (prompt is not None and not any(prompt in row for row in head)):
                raise
        return example_converter(head, source, self.reading.columns)

    def examples(self) -> Iterator[Example]:
        """Read the sources from their start; what is dropped is counted.

        Raises:
            DataError: unreadable, empty, or with no usable row at all.
        """
        self._clear()
        for source, weight in zip(self.sources, self.weights, strict=True):
            for item in to_examples(self.items(source), self.reading):
                if isinstance(item, Dropped):
                    self.dropped[item.reason].append(item.number)
                    continue
                for _ in range(self.copies(item.row, weight)):
                    self.num_pairs += 1
                    yield item
        if not self.num_pairs:
            raise DataError(f"{self.name}: none of its {self.rows} rows is usable ({self.reasons()})", code="PF-D04")


def example_converter(head: Sequence[Row], source: str, columns: Mapping[str, str] | None = None) -> Converter:
    """The converter of :data:`EXAMPLES` for rows that begin with ``head``.

    Raises:
        ColumnError: none of them is an example.
    """
    converter = Converter(EXAMPLES, source, columns)
    if not any(_is_example(converter.prepared(number, row)) for number, row in enumerate(head, 1)):
        raise ColumnError(
            f"{source}, row 1: found columns {some(list(map(str, head[0])))}; expected 'messages', or one of {', '.join(PROMPT_COLUMNS)} "
            f"with one of {', '.join(ANSWER_COLUMNS)}; or 'text' alone; or preference pairs ('chosen' and 'rejected')"
        )
    return Converter(EXAMPLES, source, columns)


def to_examples(items: Iterable[Record | Dropped], reading: Reading) -> Iterator[Example | Dropped]:
    """Records as examples: of a pair the preferred answer, of ranked ones the best, of labelled ones those that are wanted."""
    for item in items:
        if isinstance(item, Dropped | Example):
            yield item
        elif isinstance(item, Labelled):
            yield Example(item.prompt, item.answer if item.label else None, item.row, item.tools, item.template_kwargs)
        elif isinstance(item, Pair):
            yield Example(item.prompt, item.chosen, item.row, item.tools, item.template_kwargs)
        elif isinstance(item, Ranked):
            best = next(iter(as_pairs([item], replace(reading, pairing="best-vs-worst"))))
            answer = best.chosen if isinstance(best, Pair) else None
            yield Example(item.prompt, answer, item.row, item.tools, item.template_kwargs)


def examples_of(
    rows: Iterable[Mapping[str, Any]], source: str, dropped: dict[str, list[int]], notes: Counter[str] | None = None
) -> Iterator[Example]:
    """Examples of rows in memory; ``dropped`` is filled with reason -> row numbers, from 1, ``notes`` with what was read otherwise than
    it stands -> how many rows.

    Raises:
        ColumnError: the first rows are no examples; DataError: there are none.
    """
    converter: Converter | None = None
    try:
        for number, row in enumerate(rows, 1):
            converter = converter or example_converter([row], source)
            for item in converter.convert([(number, row)]):
                if isinstance(item, Dropped):
                    dropped.setdefault(item.reason, []).append(number)
                else:
                    assert isinstance(item, Example)
                    yield item
    finally:
        if converter is not None and notes is not None:
            notes.update(converter.said())
    if converter is None:
        raise DataError(f"{source}: empty, no rows to read", code="PF-D03")
