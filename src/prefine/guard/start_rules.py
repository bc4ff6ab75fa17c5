"""What shows before the first step: settings, data, and what would be trained. No torch."""

from __future__ import annotations

from prefine.guard.history import History
from prefine.guard.rule import Rule, Seen

FEW_PAIRS = 300
USUAL_BETA = {
    **dict.fromkeys(("sigmoid", "robust", "hinge", "exo_pair", "nca_pair", "bco_pair", "apo_zero", "apo_down", "discopop"), (0.01, 0.5)),
    **dict.fromkeys(("kto", "bco", "apo_zero_unpaired"), (0.01, 0.5)),
    **{"ipo": (0.01, 1.0), "sppo_hard": (1e-4, 0.5), "simpo": (0.05, 10.0), "orpo": (0.05, 1.0), "cpo": (0.01, 0.5)},
}
"""Ranges that papers and recipes use, by loss."""


def _learning_rate(h: History) -> Seen | None:
    rate, usual = h.facts.learning_rate, h.facts.usual_learning_rate
    if rate is None or usual is None or usual[0] <= rate <= usual[1]:
        return None
    side, risk = ("below", "the model may not change at all") if rate < usual[0] else ("above", "the model may collapse")
    what = "an adapter" if h.facts.adapter else "a whole model"
    return Seen(f"learning rate {rate:g} lies {side} the usual {usual[0]:g} to {usual[1]:g} of {h.facts.method} on {what}: {risk}")


def _beta(h: History) -> Seen | None:
    beta = h.facts.beta
    usual = next((USUAL_BETA[name] for name in h.facts.loss if name in USUAL_BETA), None)
    if not h.facts.on_pairs or beta is None or usual is None or usual[0] <= beta <= usual[1]:
        return None
    side, risk = ("below", "nothing holds the model near its reference") if beta < usual[0] else ("above", "the model can hardly move")
    return Seen(f"beta {beta:g} lies {side} the usual {usual[0]:g} to {usual[1]:g} of loss {'+'.join(h.facts.loss)}: {risk}")


def _few(h: History) -> Seen | None:
    pairs = h.facts.pairs
    if pairs is None or pairs >= FEW_PAIRS or h.facts.method not in ("dpo", "kto", "reward"):
        return None
    kind = "responses" if h.facts.method == "kto" else "pairs"
    return Seen(f"only {pairs} {kind} to train on; what they show may not be what people prefer elsewhere", "note")


def _equal(h: History) -> Seen | None:
    equal = h.facts.equal_pairs
    whole = equal + (h.facts.pairs or 0)
    if not equal or equal < 0.01 * whole:
        return None
    return Seen(f"{equal} of {whole} pairs are equal once truncated, and are left out", "warn" if equal > 0.1 * whole else "note")


def _duplicated(h: History) -> Seen | None:
    share = h.facts.duplicated
    return Seen(f"{100 * share:.0f} % of the rows repeat others: they count several times") if share > 0.2 else None


def _nothing(h: History) -> Seen | None:
    return Seen("no weight is trained: the model would stay as it is", "act") if h.facts.trainable == 0 else None


def _dtypes(h: History) -> Seen | None:
    halves = [d for d in h.facts.dtypes if d in ("float16", "bfloat16")]
    if not halves:
        return None
    if "float16" in halves:
        return Seen("trained weights are held in float16: updates smaller than a thousandth of a weight are lost, and gradients overflow")
    if h.facts.learning_rate is not None and h.facts.learning_rate < 1e-4:
        rate = h.facts.learning_rate
        return Seen(f"trained weights are held in bfloat16: at learning rate {rate:g} most updates are rounded away")
    return None


def _gap(h: History) -> Seen | None:
    gap = h.facts.start_gap
    if not gap:
        return None
    return Seen(f"the reference is not the policy's start: log-probs differ by {gap:.3g} nats/response before the first update")


RULES = (
    Rule(
        "learning-rate",
        _learning_rate,
        "A peak learning rate out of the range that is usual for the method and for what is trained (see the recipes page); small models "
        "bear more: the upper end grows as 100 million over the number of weights.",
        "Too high a rate is the commonest way to ruin a model; too low a one costs the whole run.",
        "learning rate 0.0001 on a whole 1B model by DPO.",
        "set --learning-rate within the range",
        at_start=True,
    ),
    Rule(
        "beta",
        _beta,
        "A beta out of the range that papers and recipes use for the loss.",
        "Beta is the strength of the pull to the reference: without it the model drifts wherever the pairs push it.",
        "--beta 0.001 with the sigmoid loss.",
        "set --beta 0.1, or read the page on settings",
        at_start=True,
    ),
    Rule(
        "few-pairs",
        _few,
        f"Fewer than {FEW_PAIRS} pairs.",
        "A few pairs can be memorised, and say little about the next prompt.",
        "80 pairs, one of which in twenty is mislabelled.",
        "collect more pairs, or train for one epoch only and look at the held-out accuracy",
        at_start=True,
    ),
    Rule(
        "equal-pairs",
        _equal,
        "Pairs whose responses are the same tokens once truncated.",
        "They teach nothing; most often --max-length cuts away where the responses differ.",
        "Long responses that differ in their last paragraph, at --max-length 512.",
        "raise --max-length",
        at_start=True,
    ),
    Rule(
        "duplicates",
        _duplicated,
        "More than a fifth of the rows repeat others.",
        "Repeated rows are epochs in disguise: the model memorises them.",
        "A file that was concatenated with itself.",
        "run prefine data dedup, and train on what it writes",
        at_start=True,
    ),
    Rule(
        "nothing-trained",
        _nothing,
        "No parameter requires a gradient.",
        "The run would end with the model it began with.",
        "A model frozen by earlier code, or LoRA on modules that the model has not.",
        "unfreeze the model, or give an adapter",
        at_start=True,
        action="stop",
    ),
    Rule(
        "half-weights",
        _dtypes,
        "Trained weights held in float16 or bfloat16 rather than float32.",
        "An update is a thousandth of a weight or less: half precision rounds it away.",
        "from_pretrained(dtype=bfloat16), the whole model trained at 1e-6.",
        "load in float32 and train with bf16=True, or train an adapter",
        at_start=True,
    ),
    Rule(
        "reference-differs",
        _gap,
        "On the first batch the reference's log-probs are not the policy's.",
        "DPO's rewards are measured from the reference: a wrong one (before SFT, without its adapter) trains another objective.",
        "ref_model is the base, the policy is the base after SFT.",
        "leave ref_model out, so that the reference is the policy's start",
        at_start=True,
    ),
)
