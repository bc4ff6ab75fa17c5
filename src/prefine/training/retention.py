"""Retention: other data mixed into each step, so that preference training keeps what it shows.

InstructGPT's PPO-ptx (arXiv 2203.02155, eq. 2) for any preference trainer: log-likelihood
where the data has answers, KL to the reference where it has prompts alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from prefine.errors import DataError
from prefine.packing.encoding import Encoder, prompt_only
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.packing.rendering import LeftOut
from prefine.preferences.examples import ExampleSource
from prefine.scoring.reference import Reference
from prefine.scoring.scorer import Scorer
from prefine.scoring.token_logps import chunk_tokens, head_logps, whole_head


class Retention:
    """Groups to retain, drawn by step so that a resumed run draws the same.

    Args:
        read: what reading and encoding did, as :meth:`PairSource.summary` has it, with ``encoding``.
    """

    def __init__(self, groups: list[PromptGroup], uses_reference: bool, seed: int, read: dict[str, Any] | None = None) -> None:
        self.read = read or {}
        self.groups = groups
        self.uses_reference = uses_reference
        self.seed = seed

    @classmethod
    def load(cls, source: str, encoder: Encoder, seed: int) -> Retention:
        """Read and encode ``source``; all rows have answers, or none has."""
        data = ExampleSource(source)
        examples = list(data.examples())
        own = encoder.fresh()
        own.mask_reasoning = False  # what is retained is all of it
        with_answers = [e.answer is not None for e in examples]
        if any(with_answers) and not all(with_answers):
            row = examples[with_answers.index(False)].row
            raise DataError(f"{source}, row {row}: has no response while other rows do; split the file, or drop the responses")
        groups: list[PromptGroup] = []
        for e in examples:
            if e.answer is not None:
                groups += own.encode_example(e)
                continue
            try:
                ids = own.prompt_ids(e.prompt, e.tools, e.template_kwargs)[: encoder.max_length]
            except LeftOut as left:
                own.report.dropped.setdefault(left.reason, []).append(e.row)
            else:
                groups += [prompt_only(ids, e.row)] if len(ids) > 1 else []
        if not groups:
            raise DataError(f"{source}: none of its {len(examples)} rows is left after encoding: {own.report.left_out()}", code="PF-D04")
        return cls(groups, not with_answers[0], seed, data.summary() | {"encoding": own.report.summary()})

    def draw(self, number: int, step: int, micro: int, process: int, processes: int) -> tuple[list[PromptGroup], float]:
        """This process's groups, of so many that are drawn for all without repeats (with, where there are fewer); the mean of all
        processes' tokens, for which none has to be asked.
        """
        generator = np.random.default_rng((self.seed, step, micro, 0))
        picks = generator.choice(len(self.groups), number, replace=number > len(self.groups))
        drawn = [self.groups[i] for i in picks]
        return drawn[process::processes], sum(len(g.completion_ids[0]) for g in drawn) / processes

    def token_losses(self, scorer: Scorer, reference: Reference | None, pack: Pack, ref_hidden: torch.Tensor | None) -> torch.Tensor:
        """Loss of each scored token, shape (N,): negative log-likelihood or KL(reference || policy)."""
        if ref_hidden is None or reference is None:
            losses_N = -scorer.token_logps(pack)
            return losses_N if pack.weight_N is None else losses_N * pack.weight_N
        ref_head, ref_N = reference.scorer.head if reference.is_policy else whole_head(reference.scorer.head), ref_hidden

        def one(hidden_CD: torch.Tensor, ref_CD: torch.Tensor) -> torch.Tensor:
            logp = head_logps(hidden_CD, scorer.head, scorer.scaling)
            with torch.no_grad():
                ref_logp = head_logps(ref_CD, ref_head, scorer.scaling)
            return (ref_logp.exp() * (ref_logp - logp)).sum(-1)

        def work(hidden_ND: torch.Tensor) -> tuple[torch.Tensor]:
            chunk = chunk_tokens(getattr(scorer.head, "out_features", 2**17))
            pieces = zip(hidden_ND.split(chunk), ref_N.split(chunk), strict=True)
            return (torch.cat([checkpoint(one, h, r, use_reentrant=False) for h, r in pieces]),)

        losses_N = scorer.read(pack, work)[0]
        return losses_N
