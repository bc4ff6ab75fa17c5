"""What shows where a run samples: rewards, KL, lengths, the sampler. No torch."""

from __future__ import annotations

from statistics import pstdev

from prefine.guard.history import History
from prefine.guard.rule import Rule, Seen

KL_WARN, KL_ACT = 1.5, 4.0
"""Nats a token from the reference."""
HUGE = 1e6
OF_PAIRS = {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
"""Rewards of pairs; others by such names are parts of a sampled response's reward."""


def _equal_rewards(h: History) -> Seen | None:
    used, spread = h.of("objective/prompts_used")[-3:], h.of("objective/scores_std")[-3:]
    if len(spread) == 3 and max(spread) < 1e-8:
        return Seen("all responses get the same reward: nothing tells a good one from a bad one", "act")
    if len(used) == 3 and max(used) < 0.05:
        return Seen(f"only {100 * max(used):.0f} % of the prompts have responses that differ in reward")
    return None


def _huge_rewards(h: History) -> Seen | None:
    score = h.last("objective/scores")
    return Seen(f"the mean reward is {score:.3g}: its size drowns everything else", "act") if score and abs(score) > HUGE else None


def _failed_rewards(h: History) -> Seen | None:
    failed = h.last("objective/failed_rewards")
    return Seen(f"{100 * failed:.0f} % of the responses got no reward") if failed and failed > 0.1 else None


def _kl(h: History) -> Seen | None:
    kl, length, each = h.last("objective/kl", 3), h.last("completions/length", 3), h.last("kl_per_token", 3)
    if each is None and kl is not None and length:
        each = kl / length
    if each is None or each < KL_WARN:
        return None
    return Seen(f"{each:.2g} nats/token from the reference", "act" if each > KL_ACT else "warn")


def _update(h: History) -> Seen | None:
    kl, clipped = h.last("policy/approxkl", 3), h.last("policy/clipfrac", 3)
    if kl is None or clipped is None or (kl < 0.2 and clipped < 0.6):
        return None
    return Seen(
        f"each update moves the policy by {kl:.2g} nats/token and {100 * clipped:.0f} % of it is clipped", "act" if kl > 1 else "warn"
    )


def _hacked(h: History) -> Seen | None:
    scores = h.of("objective/scores")
    part = len(scores) // 3
    if part < 3:
        return None
    early, late = scores[:part], scores[-part:]
    rise = sum(late) / part - sum(early) / part
    if rise <= max(pstdev(early), 1e-9):
        return None
    wins = h.of("probe/win_rate_high")[-2:]
    won, ended = max(wins) if len(wins) == 2 else None, h.thirds("completions/ended")
    length = h.thirds("completions/length")
    if won is not None and won < 0.5:
        return Seen(f"the reward rises by {rise:.2g}, but the judge prefers the base's responses", "act")
    loops = h.last("probe/repetition_change")
    if loops is not None and loops > 0.15:
        return Seen(f"the reward rises by {rise:.2g} while responses repeat themselves", "act")
    if length is not None and length[1] > 2 * length[0]:
        return Seen(f"the reward rises by {rise:.2g} while responses grow from {length[0]:.0f} to {length[1]:.0f} tokens")
    if ended is not None and ended[1] < ended[0] - 0.3:
        return Seen(f"the reward rises by {rise:.2g} while {100 * (1 - ended[1]):.0f} % of the responses do not end")
    return None


def _parts_part(h: History) -> Seen | None:
    names = {n for r in h.rows[-3:] for n in r if n.startswith("rewards/") and n not in OF_PAIRS}
    ups: list[str] = []
    downs: list[str] = []
    for name in sorted(names):
        ends = h.thirds(name, 12)
        if ends is None:
            continue
        spread = pstdev(h.of(name)[: len(h.of(name)) // 3])
        if abs(ends[1] - ends[0]) > max(2 * spread, 0.15 * abs(ends[0]), 0.02):
            (ups if ends[1] > ends[0] else downs).append(f"{name.split('/')[1]} from {ends[0]:.2g} to {ends[1]:.2g}")
    if not ups or not downs:
        return None
    return Seen(f"one reward rises ({ups[0]}) while another falls ({downs[0]})")


def _flat(h: History) -> Seen | None:
    names = {n for r in h.rows for n in r if (n.startswith("rewards/") and n not in OF_PAIRS and not n.endswith("/std"))}
    for name in ["objective/scores", *sorted(names)]:
        values = h.of(name)
        if len(values) >= 10 and max(values) - min(values) < 1e-6:
            return Seen(f"{name.removeprefix('rewards/')} is {values[-1]:.3g} in every log: it does not depend on the responses")
    return None


def _sampler(h: History) -> Seen | None:
    gaps = h.of("objective/sampler_gap")
    if len(gaps) < 6:
        return None
    early, late = max(gaps[:3]), min(gaps[-3:])
    if late < 0.02 or late < 10 * early:
        return None
    return Seen(f"sampler and trainer disagree more and more: {early:.2g} nats/token at the start, {late:.2g} now")


RULES = (
    Rule(
        "equal-rewards",
        _equal_rewards,
        "Rewards without any spread three logs in a row, or hardly a prompt whose responses differ in reward.",
        "The advantage is then noise, or the KL penalty alone.",
        "A reward function that returns 1.0 for everything; a task that is solved, or never solved.",
        "look at the reward of a few responses by hand, raise --temperature, or take harder prompts",
        "stop",
    ),
    Rule(
        "huge-rewards",
        _huge_rewards,
        f"A mean reward above {HUGE:g}.",
        "Gradients are in proportion to rewards: clipped, they point one way only.",
        "A reward of 1e31 from a division by nearly zero.",
        "bring the rewards to the order of one (--whiten-rewards, or a scale in the function)",
        "stop",
    ),
    Rule(
        "failed-rewards",
        _failed_rewards,
        "More than a tenth of the responses have no reward: the function raised, or returned none or NaN.",
        "What is learned then depends on which responses break it.",
        "A parser that fails on long responses.",
        "mend the reward function; its first exception is shown above",
    ),
    Rule(
        "kl-budget",
        _kl,
        f"More than {KL_WARN:g} nats/token from the reference; above {KL_ACT:g} it is acted upon.",
        "Far from the reference the reward knows nothing of the responses, and other skills go.",
        "objective/kl at 150 with responses of 50 tokens.",
        "raise the KL coefficient (--kl-coef), or lower the learning rate",
        "roll back",
    ),
    Rule(
        "update-too-large",
        _update,
        "PPO's own measure of a single update: approximate KL above 0.2, or most of it clipped.",
        "The samples then come from another model than the one that is trained.",
        "policy/approxkl of 0.8.",
        "lower the learning rate, or make fewer passes over a rollout",
        "lower",
    ),
    Rule(
        "reward-hacking",
        _hacked,
        "The reward rises by more than its spread while something that it should stand for falls: the judge's win rate, the share of "
        "responses that end; or repetition or lengths explode.",
        "The model has found what the reward likes and people do not.",
        "Scores double while responses grow from 40 to 120 tokens.",
        "stop here, look at the responses, and mend the reward: several models, a length penalty, a higher KL coefficient",
        "stop",
    ),
    Rule(
        "rewards-part",
        _parts_part,
        "Of several rewards one rises while another falls.",
        "The easier one (a format, a length) is learned at the cost of the one that is meant.",
        "The format's reward goes from 0.5 to 0.9, the accuracy's from 0.16 to 0.06.",
        "lower the weight of the one that rises (--reward-weights)",
    ),
    Rule(
        "flat-reward",
        _flat,
        "A reward that is the same number in ten logs.",
        "It does not depend on the responses: a bug, a cap, or a parser that fails always.",
        "An accuracy reward of 0.5 in every log.",
        "look at the reward of a few responses by hand",
    ),
    Rule(
        "sampler-gap",
        _sampler,
        "Log-probs of sampler and trainer drift apart: ten times the start's difference, and above 0.02 nats/token.",
        "The samples no longer come from the model that is trained.",
        "Weights that are not handed on to the sampling server.",
        "see that the sampler gets the weights; train in the sampler's dtype",
    ),
)
