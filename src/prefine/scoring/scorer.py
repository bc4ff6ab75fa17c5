"""A causal language model and a pack to log-probs of the pack's completions.

Legend: T input tokens, N completion tokens, D hidden size, R rows, L row length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from prefine.errors import ModelError
from prefine.packing.attention import attend
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.scoring.token_logps import HeadScaling, TokenStats, head_token_logps, within_head

Layout: TypeAlias = Literal["shared", "unshared", "padded"]


class Scorer:
    """Runs one model on packs.

    Args:
        model: a causal language model, plain, wrapped by peft or by accelerate.
        layout: ``shared`` (prompt once), ``unshared`` (a copy of the prompt for every
            completion, no padding) or ``padded`` (rows with the model's own attention).
    """

    attended: ClassVar[tuple[PromptGroup, ...]] = ()
    """The groups of the pack that was run last in this process, by whichever scorer: those that did not fit, where memory ran out."""

    def __init__(self, model: nn.Module, layout: Layout = "shared") -> None:
        self.model = model
        self.layout: Layout = layout
        self.unwrapped = unwrap(model)
        head = self.unwrapped.get_output_embeddings()
        if head is None:
            raise ModelError(f"{type(self.unwrapped).__name__} has no language-model head; give a causal language model", code="PF-M06")
        self.head: nn.Module = head
        self.scaling = HeadScaling.of(self.unwrapped.config)
        self.wants_aux_loss = False
        self.aux_loss: torch.Tensor | None = None
        """Of the pack that was run last."""
        self.chunks_of: str | None = None
        """The kind of device that the head's chunks are made for, where it is not the model's: a plan's."""
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        """Mixed precision of the trunk: accelerate patches it into the model that is trained alone."""

    @property
    def shares(self) -> bool:
        """Whether packs hold the prompt once."""
        return self.layout == "shared"

    def pack(self, groups: list[PromptGroup]) -> Pack:
        """Build the pack this model's layout needs, on the model's device."""
        return Pack.build(groups, next(self.unwrapped.parameters()).device, self.shares)

    @contextmanager
    def attending(self, pack: Pack) -> Iterator[None]:
        """Hold the attention layout; wrap forward and backward in it."""
        Scorer.attended = pack.groups
        with attend(self.unwrapped, None if self.layout == "padded" else pack.spans):
            yield

    def read(self, pack: Pack, work: Callable[[torch.Tensor], tuple[Any, ...]]) -> tuple[Any, ...]:
        """Run the model, and ``work`` on the head's inputs at the positions that predict completion tokens, shape (N, D).

        Work is done within the head's forward, and nowhere else: the weights of a sharded model are whole there alone. What it returns
        may be tensors, differentiable ones in the tuple itself. Where ``wants_aux_loss`` is set, the routers' load-balancing loss (of a
        mixture of experts) is kept in ``aux_loss``.
        """
        inputs, place_N = self._padded(pack) if self.layout == "padded" else self._packed(pack)
        width = inputs["input_ids"].shape[1]
        if self.wants_aux_loss:
            inputs["output_router_logits"] = True

        def at_places(hidden: torch.Tensor) -> tuple[Any, ...]:
            # A learnt prompt (prompt tuning) stands before the tokens.
            return work(hidden[:, -width:].flatten(0, 1).index_select(0, place_N))

        with within_head(self.head, at_places) as done, self.autocast():
            out = self.model(**inputs, use_cache=False)
        self.aux_loss = out.aux_loss if self.wants_aux_loss else None
        return done.tied(out.logits)

    def hidden(self, pack: Pack) -> torch.Tensor:
        """The head's inputs at the positions that predict completion tokens, shape (N, D), of a model that is not sharded."""
        hidden_ND: torch.Tensor = self.read(pack, lambda hidden_ND: (hidden_ND,))[0]
        return hidden_ND

    def _packed(self, pack: Pack) -> tuple[dict[str, Any], torch.Tensor]:
        return {"input_ids": pack.input_ids_T[None], "position_ids": pack.position_ids_T[None]}, pack.predictor_N

    def _padded(self, pack: Pack) -> tuple[dict[str, Any], torch.Tensor]:
        # Right padding: causal models never look at it, so positions need no care.
        lengths = [s.prompt + s.completions[0] for s in pack.spans]
        width = max(lengths)
        rows = pack.input_ids_T.split(lengths)
        ids_RL = torch.stack([nn.functional.pad(r, (0, width - len(r))) for r in rows])
        starts = torch.tensor([0, *lengths[:-1]], device=ids_RL.device).cumsum(0)
        row_N = pack.completion_N
        mask_RL = torch.arange(width, device=ids_RL.device)[None] < torch.tensor(lengths, device=ids_RL.device)[:, None]
        return {"input_ids": ids_RL, "attention_mask": mask_RL.long()}, row_N * width + pack.predictor_N - starts[row_N]

    def head_logps(self, hidden_ND: torch.Tensor, pack: Pack) -> torch.Tensor:
        """Log-probs from the head's inputs (N, D), shape (N,), float32."""
        return self.head_logps_and_stats(hidden_ND, pack, False)[0]

    def head_logps_and_stats(self, hidden_ND: torch.Tensor, pack: Pack, with_stats: bool = True) -> tuple[torch.Tensor, TokenStats | None]:
        """:meth:`head_logps`, and what is logged of each token."""
        return head_token_logps(hidden_ND, self.head, pack.target_N, self.scaling, with_stats, self.chunks_of)

    def token_logps(self, pack: Pack) -> torch.Tensor:
        """Log-prob of every completion token, shape (N,), float32. Call inside :meth:`attending`."""
        return self.token_logps_and_stats(pack, False)[0]

    def token_logps_and_stats(self, pack: Pack, with_stats: bool = True) -> tuple[torch.Tensor, TokenStats | None]:
        """:meth:`token_logps`, and what is logged of each token."""
        logps_N, stats = self.read(pack, lambda hidden_ND: self.head_logps_and_stats(hidden_ND, pack, with_stats))
        return logps_N, stats

    def values(self, pack: Pack) -> torch.Tensor:
        """What a proof compares: the log-probs, shape (N,)."""
        return self.token_logps(pack)

    def plain_values(self, group: PromptGroup) -> torch.Tensor:
        """The same by ordinary forwards of prompt + completion, one at a time, shape (N,)."""
        return plain_token_logps(self.unwrapped, group)

    @torch.no_grad()
    def completion_logps(self, groups: list[PromptGroup]) -> torch.Tensor:
        """Summed log-prob of every completion, shape (M,), without gradient."""
        pack = self.pack(groups)
        with self.attending(pack):
            return pack.sum_by_completion(self.token_logps(pack))


@torch.no_grad()
def plain_token_logps(model: nn.Module, group: PromptGroup) -> torch.Tensor:
    """Log-probs by an ordinary forward of prompt + completion, one at a time, shape (N,)."""
    device = next(model.parameters()).device
    out = []
    for completion in group.completion_ids:
        ids = torch.from_numpy(np.concatenate((group.prompt_ids, completion)).astype(np.int64)).to(device)
        logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
        logits = logits[-len(ids) :]  # without a learnt prompt's positions
        logps = logits[:-1].log_softmax(-1).gather(1, ids[1:, None]).squeeze(1)
        out.append(logps[-len(completion) :])
    return torch.cat(out)


def unwrap(model: nn.Module) -> Any:
    """The model inside accelerate's wrappers."""
    while hasattr(model, "module"):
        model = model.module  # type: ignore[assignment]
    return model
