"""Floating-point operations of a run, and how many a second this machine does.

Legend: p tokens of a prompt, c of a completion.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from prefine.planning.skeleton import Shape

SIZE = 1024
"""Rows and columns of the matrices whose product is timed."""


@dataclass(frozen=True)
class Operations:
    """Of one group: a forward of the trunk and of the head, floating-point operations."""

    trunk: float
    head: float

    def step(self, whole: bool, checkpointing: bool, forwards: int = 0) -> float:
        """Forward and backward of the group.

        Args:
            whole: all weights are trained; else gradients pass frozen weights, and those of the weights themselves are not computed.
            forwards: further ones without gradient, of a reference that is asked as training goes.
        """
        # The head's log-probs and their gradient by the hidden state are one pass; a trained head computes its logits again.
        trunk = self.trunk * ((3 if whole else 2) + checkpointing)
        return trunk + self.head * (4 if whole else 2) + forwards * (self.trunk + self.head)


def visible(shape: Shape) -> float:
    """Pairs of a query and a key that it sees, in a group whose completions share its prompt: p(p + 1)/2, and c p + c(c + 1)/2 each."""
    prompt, completions = shape
    lengths = [n - 1 for n in completions]  # a completion's last token predicts nothing and is left out
    return prompt * (prompt + 1) / 2 + sum(n * prompt + n * (n + 1) / 2 for n in lengths)


def operations(model: Any, shapes: Sequence[Shape], shared: bool = True) -> Operations:
    """The mean group's.

    Args:
        model: on whatever device; its linear layers are counted, adapters among them.
        shared: prompts stand once, else once for each completion.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    head = base.get_output_embeddings()
    text = base.config.get_text_config()
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
    per_pair = 4 * text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    trunk = scored = 0.0
    for prompt, completions in shapes:
        parts: list[Shape] = [(prompt, completions)] if shared else [(prompt, (n,)) for n in completions]
        for p, lengths in parts:
            trunk += 2 * weights * (p + sum(n - 1 for n in lengths)) + per_pair * text.num_hidden_layers * visible((p, lengths))
        scored += sum(completions)
    of_head = 0.0 if head is None else 2.0 * head.weight.numel() * scored
    return Operations(trunk / len(shapes), of_head / len(shapes))


def matrix_rate(device: str, dtype: torch.dtype, seconds: float) -> float:
    """Operations a second that products of square matrices reach here, measured for so long."""
    a, b = (torch.randn(SIZE, SIZE, device=device, dtype=dtype) for _ in range(2))

    def wait() -> None:
        if device != "cpu":
            torch.accelerator.synchronize()

    a @ b
    wait()
    begun, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds or not done:
        for _ in range(4):
            a @ b
        wait()
        done += 4
    return 2.0 * SIZE**3 * done / max(passed, time.perf_counter() - begun)
