"""Text and messages to token ids, with the boundary between prompt and completion exact.

The prompt's ids are a true prefix of what is trained on: where tokenising prompt and
completion together would merge across the boundary, the completion is tokenised apart
and the case is counted. The end-of-turn token stands at each completion's end, once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from prefine.errors import ConfigError, DataError, nearest
from prefine.packing.group import UNWANTED, WANTED, Ids, LabelledGroup, PromptGroup, WeightedGroup, as_ids
from prefine.packing.rendering import LeftOut, Messages, Piece, Rendered, Renderer, Tools
from prefine.preferences.reasoning import reasoning_end, reasoning_is_open
from prefine.preferences.records import Example, Labelled, Message, Pair, PromptText

ENCODING_VERSION = "7"
"""Part of a cached encoding's key: raise it when the same text would get other ids."""

KWARGS_NAME = "chat_template_kwargs"
"""Where a tokenizer's settings keep what its chat template is given beside the messages."""
TRUNCATION_MODES = ("keep_start", "keep_end", "drop")
Trained: TypeAlias = Literal["answer", "turns", "all"]
Member: TypeAlias = tuple[list[int], list[float] | None]
"""An answer's ids, and a weight for each where not all of them count."""


BY_LENGTH = (
    *("prompt is too long", "prompt fills max_length, no response is left", "response is too long"),
    *("text is too long", "responses are equal once truncated or tokenised", "of the response's own turns nothing is left once truncated"),
)
"""Reasons that a larger max_length would mend."""
BY_TEMPLATE = ("the chat template", "a model without a chat template")
"""How reasons begin that another template would mend."""


@dataclass
class EncodingReport:
    """What encoding did to a dataset, by count.

    ``dropped`` maps a reason to row numbers; ``cut`` counts prompts and completions
    shortened; ``merges`` counts boundaries where a tokenizer would have merged;
    ``notes`` counts what the chat template was given otherwise than it stands; ``last_reason`` is that of
    the latest drop.
    """

    pairs: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=Counter)
    merges: int = 0
    end_tokens_added: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    last_reason: str = ""

    def left_out(self) -> str:
        """Reasons with their counts and first rows, and what would help."""
        if not self.dropped:
            return "nothing was given"
        reasons = "; ".join(f"{len(rows)} dropped, the first of them row {rows[0]}: {reason}" for reason, rows in self.dropped.items())
        by_length = any(reason in BY_LENGTH for reason in self.dropped)
        by_template = any(reason.startswith(BY_TEMPLATE) for reason in self.dropped)
        help_template = "; give a model, or a chat template, that writes them (prefine data show --model M --tokens shows what it writes)"
        return reasons + ("; raise max_length" if by_length else "") + (help_template if by_template else "")

    def add(self, other: EncodingReport) -> None:
        """What was done to the rows that follow."""
        self.pairs += other.pairs
        for reason, rows in other.dropped.items():
            self.dropped.setdefault(reason, []).extend(rows)
        self.cut.update(other.cut)
        self.merges += other.merges
        self.end_tokens_added += other.end_tokens_added
        self.notes.update(other.notes)
        self.last_reason = other.last_reason or self.last_reason

    def summary(self) -> dict[str, Any]:
        """Counts as plain data, for ``data.json``."""
        return {
            "encoded": self.pairs,
            "dropped": {reason: {"count": len(rows), "rows": rows} for reason, rows in self.dropped.items()},
            "cut": dict(self.cut),
            "boundary_merges": self.merges,
            "end_tokens_added": self.end_tokens_added,
            "notes": dict(self.notes),
        }


class Encoder:
    """Encodes records with a tokenizer and its chat template, if it has one.

    Args:
        max_length: most tokens of prompt + completion, or None.
        max_prompt_length: most tokens of the prompt, or None.
        truncation_mode: what becomes of a prompt that is too long: ``keep_start``,
            ``keep_end``, or ``drop`` the row. A completion that still does not fit is cut
            at its end (counted), or its row dropped under ``drop``.
        template_kwargs: what the chat template is given beside the messages (``enable_thinking``). None: what the
            tokenizer's own settings hold under ``chat_template_kwargs``, where a training run left them.
        mask_reasoning: leave a response's reasoning out of the loss; what follows it is still given it.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        truncation_mode: str = "keep_start",
        template_kwargs: Mapping[str, Any] | None = None,
        mask_reasoning: bool = False,
    ) -> None:
        if truncation_mode not in TRUNCATION_MODES:
            raise ConfigError(
                f"truncation_mode is {truncation_mode!r}; expected one of {', '.join(TRUNCATION_MODES)}"
                f"{nearest(truncation_mode, TRUNCATION_MODES)}",
                code="PF-C03",
            )
        for name, value in (("max_length", max_length), ("max_prompt_length", max_prompt_length)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected a positive number of tokens, or null for no limit", code="PF-C03")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.truncation_mode = truncation_mode
        self.mask_reasoning = mask_reasoning
        if template_kwargs is None:
            template_kwargs = getattr(tokenizer, "init_kwargs", {}).get(KWARGS_NAME)
        self.renderer = Renderer(tokenizer, template_kwargs)
        self.has_template = self.renderer.has_template
        self.report = EncodingReport(notes=self.renderer.notes)
        self.end_ids = set(getattr(tokenizer, "all_special_ids", ())) | set(getattr(tokenizer, "added_tokens_decoder", {}))

    def render(
        self, prompt: PromptText, answers: Iterable[PromptText], tools: Tools = None, template_kwargs: Mapping[str, Any] | None = None
    ) -> Rendered:
        """Prompt and answers as text, templates applied.

        Args:
            tools: the functions that the template offers.
            template_kwargs: what this row's template is given beside the messages.

        Raises:
            LeftOut: the template refuses a role, or leaves out part of what the messages say.
        """
        if isinstance(prompt, str):
            return Rendered(prompt, tuple((Piece(a if isinstance(a, str) else str(a[-1]["content"])),) for a in answers))
        turns: list[Messages] = [({"role": "assistant", "content": a},) if isinstance(a, str) else a for a in answers]
        return self.renderer.render(prompt, turns, tools, template_kwargs)

    def prompt_ids(self, prompt: PromptText, tools: Tools = None, template_kwargs: Mapping[str, Any] | None = None) -> Ids:
        """Ids to generate from, untruncated, shape (tokens,)."""
        return as_ids(self._tokenize(self.render(prompt, [], tools, template_kwargs).prompt, special=self._special(prompt)))

    def _special(self, prompt: PromptText) -> bool:
        return isinstance(prompt, str) or not self.has_template  # templates write their own begin token

    def _tokenize(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        while special and ids and ids[-1] == self.tokenizer.eos_token_id and not text.endswith(self.tokenizer.eos_token):
            ids = ids[:-1]  # some tokenizers end every text
        return ids

    def encode(
        self,
        prompt: PromptText,
        answers: list[PromptText],
        row: int = 0,
        tools: Tools = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> PromptGroup | None:
        """A group of the prompt and its answers, or None where the report says why not.

        Of an answer of several turns the model's own count; the group is a ``WeightedGroup`` then.
        """
        try:
            rendered = self.render(prompt, answers, tools, template_kwargs)
        except LeftOut as left:
            self._drop(left.reason, row)
            return None
        special = self._special(prompt)
        prompt_ids = self._tokenize(rendered.prompt, special)
        if not prompt_ids:
            self._drop("prompt has no tokens", row)
            return None
        members = [self._completion(rendered.prompt, prompt_ids, pieces, special) for pieces in rendered.answers]
        if any(len(pieces) > 1 for pieces in rendered.answers):
            self.report.notes["responses of several turns: only the assistant's own tokens are trained on"] += 1
        if any(not ids or (len(ids) <= 4 and self._says_nothing(p)) for (ids, _), p in zip(members, rendered.answers, strict=True)):
            self._drop("response is empty: an end token alone", row)
            return None
        return self._truncate(prompt_ids, members, row)

    def encode_text(self, text: str, row: int = 0, split: bool = True, special: bool = True) -> list[PromptGroup]:
        """Plain text with an end token, every token but the first trained on once.

        Args:
            split: where it exceeds ``max_length``, make windows, of which each begins with the last token of the one before it;
                else it is truncated.
            special: whether the tokenizer adds its own begin token, which a template writes by itself.
        """
        if self.mask_reasoning:
            raise ConfigError("mask_reasoning would be ignored where every token is trained on; give assistant_only_loss, or leave it out")
        ids = self._tokenize(text, special) if text else []
        if ids and not self._ends(ids, special):
            ids = [*ids, self.tokenizer.eos_token_id]
        if not split:
            kept = self.cut_text(ids, row)
            if kept is None:
                return []
            ids = ids[kept]
        width = max(2, self.max_length or len(ids))
        windows = [ids[i : i + width] for i in range(0, len(ids) - 1, width - 1)]
        if not windows:
            self._drop("text has no tokens", row)
            return []
        if len(windows) > 1:
            self.report.cut["texts split into windows"] += 1
        self.report.pairs += 1
        return [prompt_only(as_ids(w), row) for w in windows]

    def cut_text(self, ids: Sequence[int], row: int = 0) -> slice | None:
        """Which of a text's tokens are kept under ``max_length``; None where the row is dropped. The report counts it."""
        if self.max_length is None or len(ids) <= self.max_length:
            return slice(None)
        if self.truncation_mode == "drop":
            self._drop("text is too long", row)
            return None
        self.report.cut["texts"] += 1
        return slice(-self.max_length, None) if self.truncation_mode == "keep_end" else slice(0, self.max_length)

    def encode_whole(
        self,
        prompt: PromptText,
        answer: PromptText,
        row: int = 0,
        tools: Tools = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[PromptGroup]:
        """A conversation, or a prompt with its answer, of which every token but the first is trained on; truncated at ``max_length``."""
        try:
            rendered = self.render(prompt, [answer], tools, template_kwargs)
        except LeftOut as left:
            self._drop(left.reason, row)
            return []
        text = rendered.prompt + "".join(piece.text for piece in rendered.answers[0])
        return self.encode_text(text, row, split=False, special=self._special(prompt))

    def encode_turns(
        self, messages: Sequence[Message], row: int = 0, tools: Tools = None, template_kwargs: Mapping[str, Any] | None = None
    ) -> list[PromptGroup]:
        """A conversation of which every assistant turn is trained on: one group with weights.

        Where the template writes an earlier turn otherwise once another follows (some leave its reasoning out), where
        there is none, or where ``keep_end`` would cut into turns, each turn is a group of its own, as the model will be
        asked; ``report.cut`` counts them.
        """
        turns = [i for i, m in enumerate(messages) if m.get("role") == "assistant" and i > 0]
        if not turns:
            self._drop("no assistant turn", row)
            return []
        try:
            each = [self.render(tuple(messages[:i]), [(messages[i],)], tools, template_kwargs) for i in turns]
        except LeftOut as left:
            self._drop(left.reason, row)
            return []
        rendered = [(one.prompt, one.answers[0][0].text) for one in each]
        wholes = [head + done for head, done in rendered]
        agree = self.has_template and all(later.startswith(whole) for whole, (later, _) in zip(wholes, rendered[1:], strict=False))
        special = self._special(tuple(messages))
        cuts = self.truncation_mode == "keep_end" and self.max_length is not None
        if len(turns) > 1 and (not agree or (cuts and len(self._tokenize(wholes[-1], special)) >= (self.max_length or 0))):
            self.report.cut["conversations split into turns"] += 1
            apart = [self.encode(tuple(messages[:i]), [(messages[i],)], row, tools, template_kwargs) for i in turns]
            return [g for g in apart if g is not None]
        text = rendered[0][0]
        prompt_ids = self._tokenize(text, special)
        if not prompt_ids:
            self._drop("prompt has no tokens", row)
            return []
        pieces: list[Piece] = []
        whole = text
        for head, done in rendered:
            pieces += [Piece(head[len(whole) :], False), Piece(done)]
            whole = head + done
        group = self._truncate(prompt_ids, [self._completion(text, prompt_ids, [p for p in pieces if p.text], special)], row)
        return [] if group is None else [group]

    def _completion(self, prompt: str, prompt_ids: list[int], pieces: Sequence[Piece], special: bool) -> Member:
        """An answer's ids, its end token among them once, and a weight for each, 1 or 0; None where all count."""
        text, ids = prompt, list(prompt_ids)
        weights: list[float] = []
        for piece in pieces:
            new = self._continue(text, ids, piece.text, special)
            masked = len(new)
            if piece.trained:
                masked = self._reasoning_tokens(text, ids, piece.text, new, special) if self.mask_reasoning else 0
            text, ids, weights = text + piece.text, ids + new, weights + [0.0] * masked + [1.0] * (len(new) - masked)
        if not self._ends(ids[len(prompt_ids) :], special):
            self.report.end_tokens_added += 1
            ids, weights = [*ids, self.tokenizer.eos_token_id], [*weights, 1.0]
        return ids[len(prompt_ids) :], None if all(weights) else weights

    def _reasoning_tokens(self, text: str, ids: list[int], piece: str, new: list[int], special: bool) -> int:
        """How many of a piece's first tokens are reasoning, with the mark that ends it."""
        end = reasoning_end(piece, opened=reasoning_is_open(text))
        if not end:
            return 0
        self.report.notes["reasoning is left out of the loss"] += 1
        merges = self.report.merges
        thought = self._continue(text, ids, piece[:end], special)
        self.report.merges = merges
        return next((i for i, (a, b) in enumerate(zip(thought, new, strict=False)) if a != b), min(len(thought), len(new)))

    def _says_nothing(self, pieces: Sequence[Piece]) -> bool:
        """Whether an answer is white space and special tokens alone."""
        text = "".join(piece.text for piece in pieces)
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(str(token), "")
        return not text.strip()

    def _continue(self, text: str, ids: list[int], piece: str, special: bool) -> list[int]:
        """The piece's ids, such that those of the text before it stay as they are."""
        whole = self._tokenize(text + piece, special)
        if whole[: len(ids)] == ids:
            return whole[len(ids) :]
        self.report.merges += 1
        return self._tokenize(piece, special=False)

    def _ends(self, ids: list[int], plain: bool) -> bool:
        """Whether the last token that is not white space is an end token: of plain text the tokenizer's own, of a template's any."""
        for token in reversed(ids[-3:]):
            if token == self.tokenizer.eos_token_id or (not plain and token in self.end_ids):
                return True
            if self.tokenizer.decode([token]).strip():
                return False
        return False

    def check_ids(self) -> None:
        """Refuse rows of token ids where it matters what their words are.

        Raises:
            ConfigError: reasoning is to be left out of the loss.
        """
        if self.mask_reasoning:
            raise ConfigError("mask_reasoning would be ignored: of rows of token ids nobody knows what is reasoning; leave it out")

    def encode_ids(self, prompt_ids: list[int], answers: list[list[int]], row: int = 0) -> PromptGroup | None:
        """A group of token ids as they are, truncated or dropped as texts are; None where the report says why not."""
        self.check_ids()
        if not prompt_ids:
            self._drop("prompt has no tokens", row)
            return None
        if not all(answers):
            self._drop("response is empty", row)
            return None
        return self._truncate(prompt_ids, [(ids, None) for ids in answers], row)

    def _truncate(self, prompt_ids: list[int], members: list[Member], row: int) -> PromptGroup | None:
        limit = self.max_length
        # Without a prompt limit of its own, a prompt must leave room for one completion token.
        room = min((n for n in (self.max_prompt_length, limit and limit - 1) if n is not None), default=None)
        if self.truncation_mode == "keep_end" and limit is not None:
            longest = max(len(ids) for ids, _ in members)
            room = min(n for n in (room, max(1, limit - longest)) if n is not None)
        if room is not None and len(prompt_ids) > room:
            if self.truncation_mode == "drop":
                self._drop("prompt is too long", row)
                return None
            if self.truncation_mode == "keep_start" and self.max_prompt_length is None:
                self._drop("prompt fills max_length, no response is left", row)
                return None
            self.report.cut["prompts"] += 1
            prompt_ids = prompt_ids[:room] if self.truncation_mode == "keep_start" else prompt_ids[-room:]
        if limit is not None:
            left = limit - len(prompt_ids)
            too_long = [len(ids) > left for ids, _ in members]
            if any(too_long):
                if self.truncation_mode == "drop":
                    self._drop("response is too long", row)
                    return None
                self.report.cut["responses"] += sum(too_long)
                members = [(ids[:left], weights and weights[:left]) for ids, weights in members]
        if len(members) == 2 and _counted(*members[0]) == _counted(*members[1]):
            self._drop("responses are equal once truncated or tokenised", row)
            return None
        if any(weights is not None and not any(weights) for _, weights in members):
            self._drop("of the response's own turns nothing is left once truncated", row)
            return None
        self.report.pairs += 1
        completions = tuple(as_ids(ids) for ids, _ in members)
        if all(weights is None for _, weights in members):
            return PromptGroup(as_ids(prompt_ids), completions, row)
        counted = [np.ones(len(ids), np.float32) if weights is None else np.array(weights, np.float32) for ids, weights in members]
        return WeightedGroup(as_ids(prompt_ids), completions, row, None, np.concatenate(counted))

    def _drop(self, reason: str, row: int) -> None:
        self.report.dropped.setdefault(reason, []).append(row)
        self.report.last_reason = reason

    def encode_example(self, example: Example, trained: Trained = "answer", split_texts: bool = True) -> list[PromptGroup]:
        """One example's groups, none where the report says why not.

        Args:
            trained: what is trained on of a prompt with an answer: the answer, all of the conversation's assistant turns, or every token.
            split_texts: plain text in windows where it exceeds ``max_length``; else it is truncated.
        """
        prompt, answer, beside = example.prompt, example.answer, (example.tools, example.template_kwargs)
        if answer is None:
            self._drop("no response", example.row)
            return []
        if prompt == "" and isinstance(answer, str):
            return self.encode_text(answer, example.row, split_texts)
        if trained == "all":
            return self.encode_whole(prompt, answer, example.row, *beside)
        if trained == "turns" and not isinstance(prompt, str) and not isinstance(answer, str):
            return self.encode_turns((*prompt, *answer), example.row, *beside)
        group = self.encode(prompt, [answer], example.row, *beside)
        return [] if group is None else [group]

    def fresh(self) -> Encoder:
        """An encoder of the same settings, whose report is empty."""
        return Encoder(*self.settings())

    def settings(self) -> tuple[Any, ...]:
        """What another encoder is made of that encodes the same."""
        limits = (self.max_length, self.max_prompt_length, self.truncation_mode)
        return (self.tokenizer, *limits, self.renderer.template_kwargs, self.mask_reasoning)

    def encode_pair(self, pair: Pair) -> PromptGroup | None:
        """One pair's group, or None where the report says why not."""
        return self.encode(pair.prompt, [pair.chosen, pair.rejected], pair.row, pair.tools, pair.template_kwargs)

    def encode_labelled(self, item: Labelled) -> LabelledGroup | None:
        """One response's group, or None where the report says why not."""
        group = self.encode(item.prompt, [item.answer], item.row, item.tools, item.template_kwargs)
        return None if group is None else labelled_group(group, WANTED if item.label else UNWANTED)

    def encode_pairs(self, pairs: Iterable[Pair]) -> Iterator[PromptGroup]:
        """Groups of (chosen, rejected), one by one, dropping what cannot be trained on (see ``report``).

        Raises:
            DataError: nothing is left, or the template refuses a conversation.
        """
        some = False
        for pair in pairs:
            group = self.encode_pair(pair)
            if group is not None:
                some = True
                yield group
        if not some:
            raise DataError(f"no pair is left after encoding: {self.report.left_out()}", code="PF-D04")

    def fingerprint(self) -> str:
        """A hash of everything that decides the token ids: tokenizer, template, limits."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        parts = (
            ENCODING_VERSION,
            vocabulary,
            str(getattr(self.tokenizer, "chat_template", None)),
            f"{self.tokenizer.bos_token} {self.tokenizer.eos_token_id}",
            f"{self.max_length} {self.max_prompt_length} {self.truncation_mode}{' masked' * self.mask_reasoning}",
            json.dumps(self.renderer.template_kwargs, sort_keys=True, default=str),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _counted(ids: list[int], weights: list[float] | None) -> list[int]:
    """Ids up to the last that counts: what follows decides nothing."""
    return ids if weights is None else ids[: len(weights) - next((i for i, w in enumerate(reversed(weights)) if w), len(weights))]


def labelled_group(group: PromptGroup, label: int) -> LabelledGroup:
    """A group of one completion with its label."""
    weights = group.weights if isinstance(group, WeightedGroup) else None
    return LabelledGroup(group.prompt_ids, group.completion_ids, group.index, None, weights, (label,))


def prompt_only(ids: Ids, index: int = 0) -> PromptGroup:
    """A prompt as a group whose 'completion' is all of it but the first token."""
    return PromptGroup(np.ascontiguousarray(ids[:1]), (ids[1:],), index)
