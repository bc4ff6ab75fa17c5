"""Losses: TRL's numbers where TRL has the loss, numbers by hand everywhere."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from prefine.errors import ConfigError
from prefine.losses import LOSSES, LossOptions, PairLogps, check_losses, preference_loss
from prefine.losses.pair_logps import F_DIVERGENCES

trl_dpo = pytest.importorskip("trl.trainer.dpo_trainer")


def batch(pairs: int = 5) -> PairLogps:
    g = torch.Generator().manual_seed(3)

    def draw() -> torch.Tensor:
        return -5 * torch.rand(pairs, generator=g, dtype=torch.float64)

    lengths = [torch.randint(3, 30, (pairs,), generator=g) for _ in range(2)]
    return PairLogps(draw(), draw(), draw(), draw(), *lengths)


def one(chosen: float, rejected: float, ref_chosen: float = 0.0, ref_rejected: float = 0.0, tokens: int = 2) -> PairLogps:
    values = [torch.tensor([v], dtype=torch.float64) for v in (chosen, rejected, ref_chosen, ref_rejected)]
    return PairLogps(*values, torch.tensor([tokens]), torch.tensor([tokens]))


def trl_loss(name: str, x: PairLogps, o: LossOptions) -> torch.Tensor:
    """Run the loss branch of TRL's own source on our log-probs."""
    source = textwrap.dedent(inspect.getsource(trl_dpo.DPOTrainer._compute_loss))
    function = ast.parse(source).body[0]
    loop = next(n for n in ast.walk(function) if isinstance(n, ast.For) and "loss_type" in ast.unparse(n.target))
    chain = next(n for n in loop.body if isinstance(n, ast.If))
    scores = next(n for n in ast.walk(function) if isinstance(n, ast.If) and "f_divergence_type" in ast.unparse(n.test))
    pairs = len(x.chosen)
    longest = int(max(x.chosen_tokens.max(), x.rejected_tokens.max()))
    mask = torch.arange(longest)[None] < torch.cat((x.chosen_tokens, x.rejected_tokens))[:, None]
    per_token = mask * (torch.cat((x.chosen, x.rejected)) / torch.cat((x.chosen_tokens, x.rejected_tokens)))[:, None]
    me = SimpleNamespace(
        beta=o.beta,
        label_smoothing=o.label_smoothing,
        args=SimpleNamespace(discopop_tau=o.discopop_tau),
        f_divergence_type=o.f_divergence_type,
        f_alpha_divergence_coef=o.f_alpha_divergence_coef,
    )
    names: dict[str, Any] = {
        "self": me, "torch": torch, "F": F, "math": math, "device": "cpu", "loss_type": name,
        "chosen_logps": x.chosen, "rejected_logps": x.rejected,
        "ref_chosen_logps": x.ref_chosen, "ref_rejected_logps": x.ref_rejected,
        "chosen_logratios": x.chosen_ratio, "rejected_logratios": x.rejected_ratio,
        "completion_mask": mask.long(), "shift_completion_mask": mask, "per_token_logps": per_token,
    }  # fmt: skip
    exec(compile(ast.Module([scores], []), "trl", "exec"), names)
    names["delta_score"] = names["chosen_scores"] - names["rejected_scores"]
    exec(compile(ast.Module([chain], []), "trl", "exec"), names)
    result = names["per_sequence_loss"]
    assert result.shape == (pairs,)
    return result


SMOOTHED = {"robust": 0.1, "exo_pair": 0.1, "aot": 0.1, "aot_unpaired": 0.1}
IN_TRL = [n for n in LOSSES if n not in ("simpo", "orpo", "cpo", "kto_pair")]


@pytest.mark.parametrize("divergence", list(F_DIVERGENCES))
@pytest.mark.parametrize("name", IN_TRL)
def test_equals_trl(name: str, divergence: str) -> None:
    options = LossOptions(beta=0.2, label_smoothing=SMOOTHED.get(name, 0.0), f_divergence_type=divergence)
    x = batch()
    if divergence == "alpha_divergence":  # TRL's clamp knows no float64
        x = PairLogps(*(getattr(x, f).float() if "tokens" not in f else getattr(x, f) for f in x.__dataclass_fields__))
    ours, theirs = preference_loss(x, [name], [1.0], options), trl_loss(name, x, options)
    if name == "sft":  # ours spreads the token mean over pairs; only its mean is defined
        ours, theirs = ours.mean(), theirs.mean()
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-6, atol=1e-6)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# chosen ratio 2, rejected ratio -1, beta 0.5, two tokens a side
BY_HAND = {
    "sigmoid": -math.log(sigma(1.5)),
    "hinge": 0.0,
    "ipo": (1.0 + 0.5 - 1.0) ** 2,
    "nca_pair": -math.log(sigma(1.0)) - 0.5 * math.log(sigma(-1.0)) - 0.5 * math.log(sigma(0.5)),
    "bco_pair": -math.log(sigma(1.0)) - math.log(sigma(0.5)),
    "sppo_hard": (2 - 1) ** 2 + (-1 + 1) ** 2,
    "aot": -math.log(sigma(1.5)),
    "aot_unpaired": -math.log(sigma(1.5)),
    "apo_zero": 1 - sigma(1.0) + sigma(-0.5),
    "apo_down": sigma(1.0) + 1 - sigma(1.5),
    "sigmoid_norm": -math.log(sigma(0.75)),
    "sft": 4.0 / 2,
    "kto_pair": (1 - sigma(0.5 * (2 - 0)) + 1 - sigma(0.5 * (2 + 1))) / 2,
    "simpo": -math.log(sigma(0.5 * (-2 + 2.5) - 0.5)),
    "cpo": -math.log(sigma(0.5 * (-4 + 5))) + 2.0,
    "orpo": 2.0 - 0.5 * math.log(sigma((-2 + 2.5) - (math.log(1 - math.exp(-2)) - math.log(1 - math.exp(-2.5))))),
    "discopop": (lambda g: (1 - g) * -math.log(sigma(1.5)) + g * math.exp(-1.5))(sigma(1.5 / 0.05)),
    "robust": -math.log(sigma(1.5)),
    "exo_pair": sigma(1.5) * (math.log(sigma(1.5)) - math.log(0.9)) + sigma(-1.5) * (math.log(sigma(-1.5)) - math.log(0.1)),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_by_hand(name: str) -> None:
    x = one(-4.0, -5.0, -6.0, -4.0)
    options = LossOptions(beta=0.5, label_smoothing=0.1 if name == "exo_pair" else 0.0)
    assert preference_loss(x, [name], [1.0], options).item() == pytest.approx(BY_HAND[name], abs=1e-9)


def test_label_smoothing_of_sigmoid_is_conservative_dpo() -> None:
    loss = preference_loss(one(2.0, -1.0), ["sigmoid"], [1.0], LossOptions(beta=0.5, label_smoothing=0.2))
    assert loss.item() == pytest.approx(-0.8 * math.log(sigma(1.5)) - 0.2 * math.log(sigma(-1.5)))


def test_several_losses_add_up_with_weights() -> None:
    x, o = one(-4.0, -5.0, -6.0, -4.0), LossOptions(beta=0.5)
    assert preference_loss(x, ["sigmoid", "sft"], [1.0, 0.2], o).item() == pytest.approx(BY_HAND["sigmoid"] + 0.2 * BY_HAND["sft"])


# discopop is left out: with tau 0.05 its slope at 0 is (1 - ln 2) / (4 tau) - 1/2 - 1/4 > 0, by hand
@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].reference and n not in ("ipo", "sppo_hard", "hinge", "discopop")])
def test_gradient_raises_chosen_and_lowers_rejected_at_the_start(name: str) -> None:
    x = one(-3.0, -3.0, -3.0, -3.0)
    x.chosen.requires_grad_()
    x.rejected.requires_grad_()
    options = LossOptions(label_smoothing=0.001 if name == "exo_pair" else 0.0)
    chosen, rejected = torch.autograd.grad(preference_loss(x, [name], [1.0], options).sum(), (x.chosen, x.rejected))
    assert rejected.item() > 0
    assert chosen.item() < 0 or name == "apo_down"  # apo_down lowers both


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["sigmiod"], LossOptions(), "sigmoid"),
        (["ipo"], LossOptions(label_smoothing=0.1), "would ignore"),
        (["sigmoid"], LossOptions(simpo_gamma=1.0), "would ignore"),
        (["sigmoid"], LossOptions(f_alpha_divergence_coef=0.9), "would ignore"),
        (["exo_pair"], LossOptions(), "label_smoothing"),
        (["sigmoid"], LossOptions(beta=0), "beta"),
        ([], LossOptions(), "empty"),
    ],
)
def test_bad_options_are_refused(names: list[str], options: LossOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_losses(names, None, options)
