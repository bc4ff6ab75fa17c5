"""Liger's fused norms, rotary embeddings and gated layers for a loaded model: held against the model as it was before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ConfigError, ModelError
from prefine.packing.group import as_ids
from prefine.scoring.proof import coarsest_dtype
from prefine.scoring.scorer import unwrap

HEADS = ("cross_entropy", "fused_linear_cross_entropy")
"""Kernels that take the place of a model's loss: log-probs are computed from its head, so they would be for nothing."""
NOISE = {torch.float32: (1e-4, 1e-3), torch.float16: (5e-3, 5e-2), torch.bfloat16: (2e-2, 0.3)}
"""Of log-probs and of their gradients by the embeddings, relative in norm, by dtype. Two right kernels differ in SmolLM2-135M (30 layers)
by (4e-7, 5e-6), (9e-4, .011) and (.007, .13); a wrong one by about 1."""


def apply_liger(model: nn.Module, kernels: Mapping[str, bool] | None = None) -> dict[str, bool]:
    """Put the kernels into ``model``, on the GPU that it is on, and see that it computes what it did.

    Args:
        kernels: which, by Liger's names (``rope``, ``rms_norm``, ``swiglu``, ``geglu``); all of the architecture's, unless set.

    Returns:
        What Liger was told, to be told again without another effect.

    Raises:
        ConfigError: Liger is missing, has nothing for the architecture, or a kernel is asked for that replaces the loss.
        ModelError: with the kernels the model computes something else.
    """
    asked = dict(kernels or {})
    heads = [name for name in HEADS if asked.get(name)]
    if heads:
        raise ConfigError(
            f"liger_kernel_config: {', '.join(heads)} would be ignored, log-probs are computed from the model's head; leave it out",
            code="PF-C04",
        )
    base = unwrap(model)
    base = base.get_base_model() if hasattr(base, "peft_config") else base
    try:
        from liger_kernel.transformers import monkey_patch as liger
    except ImportError as error:
        raise ConfigError(f"use_liger_kernel needs Liger and Triton: pip install 'prefine[liger]' ({error})", code="PF-C10") from error
    if not _is_on_gpu(base):
        raise ConfigError("use_liger_kernel: its kernels run on a GPU, and the model is on the processor; leave it out", code="PF-C10")
    kind = base.config.model_type
    if kind not in liger.MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise ConfigError(f"use_liger_kernel: Liger has no kernels for {kind}; leave it out")
    before = _computed(base)
    told = asked | dict.fromkeys(HEADS, False)
    liger._apply_liger_kernel_to_instance(model=base, **told)
    dtype = coarsest_dtype(base)
    for what, old, new, noise in zip(("log-probs", "gradients"), before, _computed(base), NOISE[dtype], strict=True):
        off = float((new - old).norm() / old.norm())
        if not off <= noise:
            raise ModelError(
                f"with Liger's kernels {type(base).__name__} has other {what} than without (relative difference {off:.1e}, {noise:.0e} "
                "allowed): they are wrong for this model, GPU or version; leave use_liger_kernel out"
            )
    return told


def _is_on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).is_cuda


def _computed(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of a few tokens (N,) and the gradient of their sum by the tokens' embeddings (N + 1, D), float64."""
    vocabulary = model.config.get_text_config().vocab_size
    ids = as_ids(np.random.default_rng(0).integers(min(10, vocabulary // 2), vocabulary, 24, dtype=np.int32))
    device = next(model.parameters()).device
    ids_T = torch.from_numpy(ids.astype(np.int64)).to(device)
    seen: list[torch.Tensor] = []

    def hook(module: nn.Module, args: object, out: torch.Tensor) -> torch.Tensor:
        seen.append(out.detach().requires_grad_())
        return seen[-1]

    training = model.training
    handle = model.get_input_embeddings().register_forward_hook(hook)
    try:
        model.eval()
        logits = model(input_ids=ids_T[None], use_cache=False).logits[0, :-1].float()
        logps_N = logits.log_softmax(-1).gather(1, ids_T[1:, None]).squeeze(1)
        (gradient,) = torch.autograd.grad(logps_N.sum(), seen[-1])
    finally:
        handle.remove()
        model.train(training)
    return logps_N.detach().double(), gradient[0].double()
