"""Text and messages to token ids, with the boundary between prompt and completion exact.

The prompt's ids are a true prefix of what is trained on: where tokenising prompt and
completion together would merge across the boundary, the completion is tokenised apart
and the case is counted. The end-of-turn token stands at each completion's end, once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from prefine.errors import ConfigError, DataError, nearest
from prefine.packing.group import Ids, PromptGroup, WeightedGroup, as_ids
from prefine.preferences.records import Message, Pair, PromptText

ENCODING_VERSION = "2"
"""Part of a cached encoding's key: raise it when the same text would get other ids."""

Tools: TypeAlias = Sequence[Any] | None
TRUNCATION_MODES = ("keep_start", "keep_end", "drop")
TRANSCRIPT_ROLES = {"user": "\n\nHuman:", "assistant": "\n\nAssistant:", "system": "\n\nSystem:"}


@dataclass
class EncodingReport:
    """What encoding did to a dataset, by count.

    ``dropped`` maps a reason to row numbers; ``cut`` counts prompts and completions
    shortened; ``merges`` counts boundaries where a tokenizer would have merged.
    """

    pairs: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=Counter)
    merges: int = 0
    end_tokens_added: int = 0

    def summary(self) -> dict[str, Any]:
        """Counts as plain data, for ``data.json``."""
        return {
            "encoded": self.pairs,
            "dropped": {reason: {"count": len(rows), "rows": rows} for reason, rows in self.dropped.items()},
            "cut": dict(self.cut),
            "boundary_merges": self.merges,
            "end_tokens_added": self.end_tokens_added,
        }


class Encoder:
    """Encodes records with a tokenizer and its chat template, if it has one.

    Args:
        max_length: most tokens of prompt + completion, or None.
        max_prompt_length: most tokens of the prompt, or None.
        truncation_mode: what becomes of a prompt that is too long: ``keep_start``,
            ``keep_end``, or ``drop`` the row. A completion that still does not fit is cut
            at its end (counted), or its row dropped under ``drop``.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        truncation_mode: str = "keep_start",
    ) -> None:
        if truncation_mode not in TRUNCATION_MODES:
            raise ConfigError(
                f"truncation_mode is {truncation_mode!r}; expected one of {', '.join(TRUNCATION_MODES)}"
                f"{nearest(truncation_mode, TRUNCATION_MODES)}"
            )
        for name, value in (("max_length", max_length), ("max_prompt_length", max_prompt_length)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected a positive number of tokens, or null for no limit")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.truncation_mode = truncation_mode
        self.has_template = getattr(tokenizer, "chat_template", None) is not None
        self.report = EncodingReport()

    def render(self, prompt: PromptText, answers: Iterable[PromptText], tools: Tools = None) -> tuple[str, list[str]]:
        """Prompt text and completion texts, templates applied; ``tools`` are the functions the template offers.

        Raises:
            DataError: the template refuses a role, or writes the prompt otherwise once an answer follows.
        """
        if isinstance(prompt, str):
            return prompt, [a if isinstance(a, str) else str(a[-1]["content"]) for a in answers]
        turns = [({"role": "assistant", "content": a},) if isinstance(a, str) else a for a in answers]
        if not self.has_template:
            text = "".join(_transcript(m) for m in prompt) + TRANSCRIPT_ROLES["assistant"]
            return text, [" " + "".join(_transcript(m) for m in t).removeprefix(TRANSCRIPT_ROLES["assistant"]).strip() for t in turns]
        head = self._template(prompt, True, tools)
        completions = []
        for turn in turns:
            whole = self._template((*prompt, *turn), False, tools)
            if not whole.startswith(head):
                head_plain = self._template(prompt, False, tools)
                raise DataError(
                    "the chat template renders the prompt differently once the answer follows "
                    f"(prompt ends {head[-40:]!r}, whole begins {whole[max(0, len(head_plain) - 20) : len(head) + 20]!r}); "
                    "use a template whose prompt is a prefix"
                )
            completions.append(whole[len(head) :])
        return head, completions

    def _template(self, messages: tuple[Message, ...], generation_prompt: bool, tools: Tools = None) -> str:
        import jinja2

        options = {"tools": list(tools)} if tools else {}
        try:
            return str(
                self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation_prompt, **options)
            )
        except (jinja2.TemplateError, KeyError, TypeError) as error:
            roles = ", ".join(dict.fromkeys(str(m.get("role")) for m in messages))
            raise DataError(f"the chat template refuses a conversation with the roles {roles}: {error}") from error

    def prompt_ids(self, prompt: PromptText, tools: Tools = None) -> Ids:
        """Ids to generate from, untruncated, shape (tokens,)."""
        text, _ = self.render(prompt, [], tools)
        return as_ids(self._tokenize(text, special=self._special(prompt)))

    def _special(self, prompt: PromptText) -> bool:
        return isinstance(prompt, str) or not self.has_template  # templates write their own begin token

    def _tokenize(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        while special and ids and ids[-1] == self.tokenizer.eos_token_id and not text.endswith(self.tokenizer.eos_token):
            ids = ids[:-1]  # some tokenizers end every text
        return ids

    def encode(self, prompt: PromptText, answers: list[PromptText], row: int = 0, tools: Tools = None) -> PromptGroup | None:
        """A group of the prompt and its answers, or None where the report says why not."""
        text, completions = self.render(prompt, answers, tools)
        special = self._special(prompt)
        prompt_ids = self._tokenize(text, special)
        if not prompt_ids:
            self._drop("prompt has no tokens", row)
            return None
        members = [self._completion(text, prompt_ids, c, special) for c in completions]
        if any(len(m) == 0 for m in members):
            self._drop("answer has no tokens", row)
            return None
        return self._truncate(prompt_ids, members, row)

    def encode_text(self, text: str, row: int = 0) -> list[PromptGroup]:
        """Plain text with an end token, every token but the first trained on once; in windows where it exceeds ``max_length``.

        A window begins with the last token of the one before it.
        """
        ids = self._tokenize(text, special=True) if text else []
        if ids and not self._ends(ids):
            ids = [*ids, self.tokenizer.eos_token_id]
        width = max(2, self.max_length or len(ids))
        windows = [ids[i : i + width] for i in range(0, len(ids) - 1, width - 1)]
        if not windows:
            self._drop("text has no tokens", row)
            return []
        if len(windows) > 1:
            self.report.cut["texts split into windows"] += 1
        self.report.pairs += 1
        return [prompt_only(as_ids(w), row) for w in windows]

    def encode_turns(self, messages: Sequence[Message], row: int = 0, tools: Tools = None) -> list[PromptGroup]:
        """A conversation of which every assistant turn is trained on: one group with weights.

        Where the template writes an earlier turn otherwise once another follows (some leave its reasoning out), where
        there is none, or where ``keep_end`` would cut into turns, each turn is a group of its own, as the model will be
        asked; ``report.cut`` counts them.
        """
        turns = [i for i, m in enumerate(messages) if m.get("role") == "assistant" and i > 0]
        if not turns:
            self._drop("no assistant turn", row)
            return []
        rendered = [(head, done) for i in turns for head, [done] in [self.render(tuple(messages[:i]), [(messages[i],)], tools)]]
        wholes = [head + done for head, done in rendered]
        agree = self.has_template and all(later.startswith(whole) for whole, (later, _) in zip(wholes, rendered[1:], strict=False))
        special = self._special(tuple(messages))
        cuts = self.truncation_mode == "keep_end" and self.max_length is not None
        if len(turns) > 1 and (not agree or (cuts and len(self._tokenize(wholes[-1], special)) >= (self.max_length or 0))):
            self.report.cut["conversations split into turns"] += 1
            apart = [self.encode(tuple(messages[:i]), [(messages[i],)], row, tools) for i in turns]
            return [g for g in apart if g is not None]
        text = rendered[0][0]
        prompt_ids = self._tokenize(text, special)
        if not prompt_ids:
            self._drop("prompt has no tokens", row)
            return []
        ids = list(prompt_ids)
        weights: list[float] = []
        for head, done in rendered:
            for piece, weight in ((head[len(text) :], 0.0), (done, 1.0)):
                new = self._continue(text, ids, piece, special) if piece else []
                text, ids, weights = text + piece, ids + new, weights + [weight] * len(new)
        if not self._ends(new):
            self.report.end_tokens_added += 1
            ids, weights = [*ids, self.tokenizer.eos_token_id], [*weights, 1.0]
        group = self._truncate(prompt_ids, [ids[len(prompt_ids) :]], row)
        if group is None:
            return []
        kept = np.array(weights[: group.num_completion_tokens], np.float32)
        return [WeightedGroup(group.prompt_ids, group.completion_ids, row, None, kept)]

    def _completion(self, prompt: str, prompt_ids: list[int], completion: str, special: bool) -> list[int]:
        ids = self._continue(prompt, prompt_ids, completion, special)
        if not self._ends(ids):
            self.report.end_tokens_added += 1
            ids = [*ids, self.tokenizer.eos_token_id]
        return ids

    def _continue(self, text: str, ids: list[int], piece: str, special: bool) -> list[int]:
        """The piece's ids, such that those of the text before it stay as they are."""
        whole = self._tokenize(text + piece, special)
        if whole[: len(ids)] == ids:
            return whole[len(ids) :]
        self.report.merges += 1
        return self._tokenize(piece, special=False)

    def _ends(self, ids: list[int]) -> bool:
        """Whether the last token that is not white space is an end-of-turn token."""
        special = set(self.tokenizer.all_special_ids) | set(getattr(self.tokenizer, "added_tokens_decoder", {}))
        for token in reversed(ids[-3:]):
            if token in special:
                return True
            if self.tokenizer.decode([token]).strip():
                return False
        return False

    def _truncate(self, prompt_ids: list[int], members: list[list[int]], row: int) -> PromptGroup | None:
        limit = self.max_length
        # Without a prompt limit of its own, a prompt must leave room for one completion token.
        room = min((n for n in (self.max_prompt_length, limit and limit - 1) if n is not None), default=None)
        if self.truncation_mode == "keep_end" and limit is not None:
            longest = max(map(len, members))
            room = min(n for n in (room, max(1, limit - longest)) if n is not None)
        if room is not None and len(prompt_ids) > room:
            if self.truncation_mode == "drop":
                self._drop("prompt is too long", row)
                return None
            if self.truncation_mode == "keep_start" and self.max_prompt_length is None:
                self._drop("prompt fills max_length, no answer is left", row)
                return None
            self.report.cut["prompts"] += 1
            prompt_ids = prompt_ids[:room] if self.truncation_mode == "keep_start" else prompt_ids[-room:]
        if limit is not None:
            left = limit - len(prompt_ids)
            too_long = [len(m) > left for m in members]
            if any(too_long):
                if self.truncation_mode == "drop":
                    self._drop("answer is too long", row)
                    return None
                self.report.cut["answers"] += sum(too_long)
                members = [m[:left] for m in members]
        if len(members) == 2 and members[0] == members[1]:
            self._drop("answers are equal once cut or tokenised", row)
            return None
        self.report.pairs += 1
        return PromptGroup(as_ids(prompt_ids), tuple(as_ids(m) for m in members), row)

    def _drop(self, reason: str, row: int) -> None:
        self.report.dropped.setdefault(reason, []).append(row)

    def encode_pair(self, pair: Pair) -> PromptGroup | None:
        """One pair's group, or None where the report says why not.

        Raises:
            DataError: the template refuses the conversation; names the row.
        """
        try:
            return self.encode(pair.prompt, [pair.chosen, pair.rejected], pair.row, pair.tools)
        except DataError as error:
            raise DataError(f"row {pair.row}: {error}") from error

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
            reasons = ", ".join(f"{len(rows)} because {reason}" for reason, rows in self.report.dropped.items())
            raise DataError(f"no pair is left after encoding: dropped {reasons or 'nothing (no pairs given)'}; raise max_length")

    def fingerprint(self) -> str:
        """A hash of everything that decides the token ids: tokenizer, template, limits."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        parts = (
            ENCODING_VERSION,
            vocabulary,
            str(getattr(self.tokenizer, "chat_template", None)),
            str(self.tokenizer.eos_token_id),
            f"{self.max_length} {self.max_prompt_length} {self.truncation_mode}",
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _transcript(message: Message) -> str:
    role = str(message.get("role"))
    if role not in TRANSCRIPT_ROLES:
        raise DataError(f"role {role!r} has no place in a plain transcript; give a tokenizer with a chat template")
    return f"{TRANSCRIPT_ROLES[role]} {message['content']}"


def prompt_only(ids: Ids, index: int = 0) -> PromptGroup:
    """A prompt as a group whose 'completion' is all of it but the first token."""
    return PromptGroup(np.ascontiguousarray(ids[:1]), (ids[1:],), index)
