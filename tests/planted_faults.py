"""Clean synthetic pairs, and faults planted in one of a hundred of them: what the audit is measured on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

Row = dict[str, Any]
MAX_LENGTH = 256
SYLLABLES = [a + b for a in ("ba", "do", "ki", "lu", "me", "na", "po", "ri", "sa", "te", "vo", "zu") for b in ("l", "n", "r", "s", "t", "")]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'refused' %}{{ raise_exception('no such role') }}"
    "{% elif m['role'] != 'tool' %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def vocabulary(rng: random.Random) -> list[str]:
    """Three thousand invented words."""
    return sorted({"".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(6000)})[:3000]


class Clean:
    """Pairs with nothing wrong: both sides drawn alike, prompts all different."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.words = vocabulary(self.rng)

    def text(self, low: int, high: int) -> str:
        """Some sentences."""
        words = self.rng.choices(self.words, k=self.rng.randint(low, high))
        return " ".join(w + "." if i % 9 == 8 else w for i, w in enumerate(words)).capitalize()

    def row(self) -> Row:
        """A pair."""
        return {"prompt": self.text(8, 40), "chosen": " " + self.text(10, 60), "rejected": " " + self.text(10, 60)}


def tokenizer(clean: Clean) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the invented words, with begin and end tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=["<s>", "<|end|>", "<|user|>", "<|assistant|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)  # fmt: skip
    core.train_from_iterator((clean.text(10, 60) for _ in range(2000)), trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))])
    out = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="<|end|>", pad_token="<|end|>")
    out.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    return out


def _change(column: str, change: Callable[[str], str]) -> Callable[[Row, Clean], list[Row]]:
    return lambda row, clean: [row | {column: change(row[column])}]


def _loop(row: Row, clean: Clean) -> list[Row]:
    return [row | {"chosen": row["chosen"] + " " + " ".join([clean.text(3, 5).strip(".")] * 6)}]


def _twin(row: Row, clean: Clean) -> list[Row]:
    words = row["prompt"].split() if len(row["prompt"].split()) >= 25 else clean.text(30, 40).split()
    near = [*words[:-1], clean.rng.choice(clean.words)]
    return [row | {"prompt": " ".join(words)}, clean.row() | {"prompt": " ".join(near)}]


def _late(row: Row, clean: Clean) -> list[Row]:
    common = clean.text(400, 420)
    return [row | {"chosen": " " + common + " yes", "rejected": " " + common + " no"}]


ONE_ROW: dict[str, Callable[[Row, Clean], list[Row]]] = {
    "equal-normalised": lambda row, clean: [row | {"rejected": row["chosen"].upper() + "!"}],
    "templated": _change("prompt", lambda t: f"<|im_start|>user\n{t}<|im_end|>"),
    "prompt-repeated": lambda row, clean: [row | {"chosen": row["prompt"] + " " + row["chosen"]}],
    "control-characters": _change("rejected", lambda t: t[:9] + "\x07" + t[9:]),
    "broken-text": _change("chosen", lambda t: t + " donâ€™t"),
    "secrets": _change("chosen", lambda t: t + " AKIA" + "ABCDEFGHIJKLMNOP"),
    "personal-data": _change("prompt", lambda t: t + " write to lu.bat@mena.net"),
    "looping-answer": _loop,
    "chosen-refuses": _change("chosen", lambda t: " I'm sorry, but I can't help with that." + t),
    "reversed-scores": lambda row, clean: [row | {"score_chosen": 1.0, "score_rejected": 2.0}],
    "repeated-pair": lambda row, clean: [row, dict(row)],
    "conflicting-labels": lambda row, clean: [row, row | {"chosen": row["rejected"], "rejected": row["chosen"]}],
    "near-duplicate-prompts": _twin,
    "dropped": lambda row, clean: [row | {"rejected": row["chosen"]}],
    "cut-difference": _late,
    "boundary-merge": lambda row, clean: [row | {"prompt": row["prompt"] + " ", "chosen": row["chosen"].strip().lower()}],
    "doubled-begin": _change("prompt", lambda t: "<s>" + t),
}
"""Fault -> a clean row to the rows that take its place; the last of them is the one at fault (both, for conflicts)."""


@dataclass
class Planted:
    """Rows with a fault in one of a hundred."""

    rows: list[Row] = field(default_factory=list)
    at_fault: set[int] = field(default_factory=set)


def plant(fault: str, count: int, clean: Clean, every: int = 100) -> Planted:
    """``count`` rows, one of ``every`` with the fault; rows are numbered from 1."""
    out = Planted()
    while len(out.rows) < count:
        row = clean.row()
        if len(out.rows) % every == every // 2:
            made = ONE_ROW[fault](row, clean)
            out.rows += made
            out.at_fault.add(len(out.rows))
            if fault == "conflicting-labels":
                out.at_fault.add(len(out.rows) - 1)
        else:
            out.rows.append(row)
    return out
