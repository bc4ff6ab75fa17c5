"""What shows in the curves of any training: loss, gradients, rewards, held-out measures, speed. No torch.

A healthy DPO run has its loss fall from 0.693 towards 0.3 to 0.6, chosen rewards rising or flat, rejected ones falling, margins positive
and growing, accuracy above 0.5 towards 0.7, gradient norms of 0.01 to 10 (Axolotl's documentation on DPO).
"""

from __future__ import annotations

import math
from statistics import median

from prefine.guard.history import LN2, History, is_lost
from prefine.guard.rule import Rule, Seen

SPIKE, LARGE_NORM = 10.0, 10.0
FALLEN = ((0.6, "act"), (0.3, "warn"), (0.15, "note"))
"""Shares of the chosen responses' log-probability that were lost, and how bad that is."""
SURE = 40.0
"""Nats that a response counts as having had at least: of one that was nearly certain any loss is a large share."""


def _not_finite(h: History) -> Seen | None:
    skipped = h.now("skipped_updates") or 0
    bad = h.failed("loss", "grad_norm", "objective/kl", "kl_per_token")
    if not skipped and bad is None:
        return None
    so_far = int(sum(h.of("skipped_updates", whole=True)))
    text = (
        f"{int(skipped)} updates had no finite gradient and were skipped ({so_far} in all)" if skipped else f"{bad} is not a finite number"
    )
    recent = sum(h.of("skipped_updates")[-3:])
    return Seen(text, "act" if recent >= 3 or (bad and len(h.rows) > 1 and _bad_before(h)) else "warn")


def _bad_before(h: History) -> bool:
    """Whether the last but one training row had no finite loss or gradient either."""
    rows = [r for r in h.rows if "loss" in r or "grad_norm" in r]
    return len(rows) > 1 and any(is_lost(rows[-2], n) for n in ("loss", "grad_norm"))


def _explodes(h: History) -> Seen | None:
    first, last = h.first("loss"), h.last("loss", 3)
    # KTO's losses are weighed by label: batches of other labels have other losses.
    if first is None or last is None or h.facts.method in ("ppo", "kto"):
        return None
    start = LN2 if h.facts.starts_at_ln2 else first if h.facts.start_loss is None else h.facts.start_loss
    steep = 1.5 if h.facts.method in ("dpo", "online-dpo", "reward") else 1.25
    if last <= steep * abs(start) + 0.1:
        return None
    return Seen(f"the loss has risen from {start:.3g} to {last:.3g}", "act" if last > 2 * abs(start) + 0.1 or steep < 1.5 else "warn")


def _spike(h: History) -> Seen | None:
    norms = h.of("grad_norm")
    if len(norms) < 8 or h.now("grad_norm") is None:
        return None
    usual = median(norms[:-1])
    if norms[-1] <= max(LARGE_NORM, SPIKE * usual):
        return None
    spikes = sum(n > max(LARGE_NORM, SPIKE * usual) for n in norms[-8:])
    return Seen(f"gradient norm {norms[-1]:.3g}, usually {usual:.3g}", "act" if spikes >= 3 else "warn")


def _no_gradient(h: History) -> Seen | None:
    norms = h.of("grad_norm")
    if len(norms) < 3 or max(norms[-3:]) > 1e-8:
        return None
    return Seen("the gradient is zero: nothing is learned", "act")


def _stuck(h: History) -> Seen | None:
    on = h.facts.starts_at_ln2 or h.facts.method == "reward"
    if not on or h.progress is None or h.progress < 0.5 or h.step - h.since < 30:
        return None
    losses, margins = h.of("loss"), h.of("rewards/margins")
    half = len(losses) // 2
    if half < 3 or len(margins) < half:
        return None
    if abs(median(losses[-half:]) - LN2) > 0.003 or abs(median(margins[-half:])) > 0.01:
        return None
    return Seen(f"the loss stays at {median(losses[-half:]):.4f}, which is ln 2: policy and reference do not differ")


def _below_chance(h: History) -> Seen | None:
    if h.facts.method == "kto":  # whose accuracy is of labels, of which there may be few of one kind
        return None
    for name, pairs, words in (
        ("rewards/accuracies", (h.facts.pairs_per_log or 0), "of the training pairs"),
        ("eval_rewards/accuracies", h.facts.held_out or 0, "of held-out pairs"),
    ):
        recent = h.of(name)[-4:] if name[0] == "r" else h.of(name)[-1:]
        if not pairs or not recent or (name[0] == "r" and len(recent) < 4) or (h.progress or 1) < 0.2:
            continue
        # At the start margins are exactly 0, which counts as wrong: only where they moved does accuracy tell.
        margin = h.last(name.replace("accuracies", "margins")) or 0.0
        share, count = sum(recent) / len(recent), pairs * len(recent)
        if margin < 0 and share < 0.5 - 4 * 0.5 / math.sqrt(count):
            return Seen(f"the model prefers the chosen response in only {100 * share:.0f} % {words}")
    return None


def _memorised(h: History) -> Seen | None:
    accuracy, loss = h.of("rewards/accuracies")[-3:], h.last("loss", 3)
    margins = h.thirds("rewards/margins")
    if not h.facts.on_pairs and h.facts.method != "reward":
        return None
    if h.facts.loss in ((), ("sigmoid",), ("robust",)) and loss is not None and max(h.of("loss")[-3:]) < 0.002:
        return Seen("the loss is 0: every training pair is told apart with certainty: it is memorised")
    if len(accuracy) < 3 or min(accuracy) < 0.995 or margins is None or margins[1] <= 1.5 * max(0.0, margins[0]):
        return None
    if h.facts.starts_at_ln2 and (loss is None or loss > 0.02):
        return None
    held = h.last("eval_rewards/accuracies")
    if held is not None and held > 0.97:
        return None
    rest = f", of held-out pairs {100 * held:.0f} %" if held is not None else ""
    text = f"every training pair is told apart{rest}, and margins still grow (to {margins[1]:.3g}): pairs are memorised"
    return Seen(text, "act" if held is not None and held < 0.8 else "warn")


def _chosen_falls(h: History) -> Seen | None:
    reward, logp = h.last("rewards/chosen", 3), h.last("logps/chosen", 3)
    if not h.facts.on_pairs or reward is None or logp is None or reward >= 0 or "ipo" in h.facts.loss:
        return None
    nats = -reward / (h.facts.beta or 0.1)
    was = -logp - nats
    share = nats / max(was, SURE)
    for least, severity in FALLEN:
        if share > least and nats > 5:
            text = f"chosen responses have lost {nats:.0f} of their log-probability of {-was:.0f} nats ({100 * share:.0f} %)"
            return Seen(text, severity)  # type: ignore[arg-type]
    return None


def _held_out_rises(h: History) -> Seen | None:
    losses = h.of("eval_loss")
    if len(losses) < 3 or h.now("eval_loss") is None:
        return None
    least = min(losses)
    if min(losses[-2:]) <= least + 0.05 * abs(least) + 0.005:
        return None
    text = f"held-out loss has risen from {least:.3g} to {losses[-1]:.3g} over the last evaluations"
    accuracy = h.of("eval_rewards/accuracies")
    if len(accuracy) >= 3 and _accuracy_falls(h) is None:
        return Seen(f"{text}; its accuracy holds ({100 * accuracy[-1]:.0f} %): margins grow too sure", "note")
    return Seen(text, "act")


def _accuracy_falls(h: History) -> Seen | None:
    held = h.of("eval_rewards/accuracies")
    if len(held) < 4 or h.now("eval_rewards/accuracies") is None:
        return None
    if h.facts.held_out:
        best, now = max(held), max(held[-2:])
        fallen = best - now > max(0.04, 2 * math.sqrt(0.5 / h.facts.held_out))
    else:  # how noisy it is, nobody knows
        ends = h.thirds("eval_rewards/accuracies")
        fallen = ends is not None and ends[1] < ends[0] - 0.045
    if not fallen:
        return None
    return Seen(f"held-out accuracy has fallen from {100 * max(held):.0f} % to {100 * held[-1]:.0f} %")


def _held_out_stops(h: History) -> Seen | None:
    held, losses = h.points("eval_rewards/accuracies"), h.points("loss")
    if len(held) < 9 or h.now("eval_rewards/accuracies") is None:
        return None
    step, best = max(held, key=lambda point: (point[1], -point[0]))
    before, after = [v for s, v in losses if s <= step][-3:], [v for s, v in losses if s > step]
    since = sum(s > step for s, _ in held)
    if 3 * since < len(held) or len(before) < 3 or len(after) < 3 or median(after[-3:]) > 0.85 * median(before):
        return None
    fallen = f"the training loss fell from {median(before):.3g} to {median(after[-3:]):.3g}"
    return Seen(f"held-out accuracy was never again above the {100 * best:.0f} % of step {step}, while {fallen}", "note")


def _at_chance(h: History) -> Seen | None:
    if (h.progress or 0) < 0.5 or h.facts.method not in ("dpo", "reward", "online-dpo"):
        return None
    held = h.of("eval_rewards/accuracies")
    if len(held) >= 6 and all(abs(v - 0.5) < 0.03 for v in held[-6:]):
        return Seen(f"held-out accuracy stays at {100 * median(held[-6:]):.0f} %: pairs are told apart no better than by chance")
    trained = h.of("rewards/accuracies")
    late = trained[len(trained) // 2 :]
    count = len(late) * (h.facts.pairs_per_log or 0)
    if len(late) < 4 or count < 1000 or abs(sum(late) / len(late) - 0.5) > 2 * 0.5 / math.sqrt(count):
        return None
    return Seen(f"training accuracy stays at {100 * sum(late) / len(late):.0f} %: pairs are told apart no better than by chance")


def _empty_responses(h: History) -> Seen | None:
    chosen, rejected = h.of("logps/chosen")[-3:], h.of("logps/rejected")[-3:]
    if len(chosen) < 3 or len(rejected) < 3 or any(chosen) or any(rejected):
        return None
    return Seen("log-probs of chosen and rejected are 0: no token of the responses counts", "act")


def _zero_loss(h: History) -> Seen | None:
    losses = h.of("loss")
    if h.facts.method != "sft" or len(losses) < 3 or max(losses[-3:]) > 1e-4:
        return None
    return Seen("the loss is 0: no token counts, or every one is memorised", "act")


def _loss_spike(h: History) -> Seen | None:
    points = h.points("loss")
    if len(points) < 5 or h.now("loss") is None or h.facts.method in ("ppo", "online-dpo"):
        return None
    # Until five are there nobody knows what is usual: then each of them is held against the others, but for the first, which may be high.
    step, loss = max(points[1:], key=lambda point: point[1]) if len(points) == 5 else points[-1]
    usual = median(v for s, v in points[-20:] if s != step)
    if loss <= 3 * abs(usual) + 0.5:
        return None
    return Seen(f"a loss of {loss:.3g} at step {step}, usually {usual:.3g}")


def _odd_rows(h: History) -> Seen | None:
    odd, rows = h.last("odd_rows/count"), h.last("odd_rows/of")
    if not odd or not rows or rows < 100 or odd < max(3, 0.02 * rows):
        return None
    return Seen(f"{odd:.0f} of {rows:.0f} chosen responses are far less likely to the model than the rest: noise, or another language")


def _gap_grows(h: History) -> Seen | None:
    held, trained = h.last("eval_rewards/accuracies"), h.last("rewards/accuracies", 3)
    if held is None or trained is None or not h.facts.held_out or h.now("eval_rewards/accuracies") is None:
        return None
    noise = math.sqrt(0.25 / h.facts.held_out + 0.25 / max(1, 3 * (h.facts.pairs_per_log or 32)))
    if trained - held <= max(0.2, 4 * noise):
        return None
    return Seen(f"accuracy is {100 * trained:.0f} % on training pairs and {100 * held:.0f} % on held-out ones")


def _staircase(h: History) -> Seen | None:
    points, epochs = h.points("loss"), dict(h.points("epoch"))
    if (h.facts.epochs or 0) < 1.5 or h.facts.method not in ("dpo", "kto", "sft", "reward"):
        return None
    done = math.floor(epochs.get(h.step, 0.0) + 1e-6)
    before = [v for s, v in points if done - 1 + 0.5 <= epochs.get(s, -1) < done]
    after = [v for s, v in points if done <= epochs.get(s, -1) < done + 0.5]
    if done < 1 or len(before) < 4 or len(after) < 4:
        return None
    within = median(before[: len(before) // 2]) - median(before[len(before) // 2 :])
    drop = median(before) - median(after)
    if drop < max(0.15 * abs(median(before)), 3 * abs(within)):
        return None
    return Seen(f"the loss drops from {median(before):.3g} to {median(after):.3g} where pass {done + 1} over the data begins", "note")


def _entropy(h: History) -> Seen | None:
    first, last = h.first("entropy"), h.last("entropy", 3)
    if h.facts.method == "sft" or first is None or last is None or last > 0.1 * first:
        return None
    return Seen(f"entropy a token has fallen from {first:.2g} to {last:.2g} nats: the model says one thing only")


def _slower(h: History) -> Seen | None:
    speeds = h.thirds("tokens_per_second", 15)
    if speeds is None or speeds[1] > 0.25 * speeds[0]:
        return None
    return Seen(f"speed has fallen from {speeds[0]:.0f} to {speeds[1]:.0f} tokens/s", "note")


def _memory(h: History) -> Seen | None:
    sizes = h.of("peak_memory_bytes")
    if len(sizes) < 15:
        return None
    third = len(sizes) // 3
    middle, last = sizes[2 * third], sizes[-1]
    rises = sum(b > a for a, b in zip(sizes[2 * third :], sizes[2 * third + 1 :], strict=False))
    if last < 1.3 * sizes[third] or last - middle < 1 << 29 or rises < 0.7 * third:
        return None
    return Seen(f"memory grows: {sizes[third] / 2**30:.1f} GiB a third into the run, {last / 2**30:.1f} now", "note")


RULES = (
    Rule(
        "not-finite",
        _not_finite,
        "A loss or gradient that is NaN or infinite. Such an update is skipped and counted; ten in a row end the run.",
        "One such update turns every weight into NaN.",
        "Weights that grew until float16 overflows; a row that breaks the loss.",
        "lower the learning rate, or train in bfloat16 rather than float16",
        "roll back",
    ),
    Rule(
        "loss-explodes",
        _explodes,
        "The median of the last three logged losses is far above where it began.",
        "The weights have left the region where the model works.",
        "A DPO loss that goes from 0.69 to 5.",
        "lower the learning rate to a tenth",
        "roll back",
    ),
    Rule(
        "gradient-spike",
        _spike,
        f"A gradient norm above {LARGE_NORM:g} and above {SPIKE:g} times the run's median.",
        "Single batches that pull much harder than others are broken rows, or the start of a divergence.",
        "Norms around 2, then 150.",
        "look at the rows around that step, lower the learning rate, or clip gradients (--max-grad-norm 1)",
        "lower",
    ),
    Rule(
        "no-gradient",
        _no_gradient,
        "A gradient norm of zero three logs in a row.",
        "Nothing is learned.",
        "A frozen model, a learning rate schedule at its end, rewards that are all equal.",
        "see which weights require a gradient, and whether the data differs at all",
        "stop",
    ),
    Rule(
        "loss-stuck",
        _stuck,
        "A loss of ln 2 (0.693) and margins of zero over the second quarter of the run and later.",
        "Policy and reference do not differ: the rate is too low, nothing is trained, or the reference moves along.",
        "Loss 0.6931 from the first step to the last.",
        "raise the learning rate ten times",
    ),
    Rule(
        "below-chance",
        _below_chance,
        "Accuracy surely below one half with negative margins, on training or held-out pairs.",
        "The model learns the opposite of what the pairs say: labels are swapped, or the rate is far too high.",
        "Held-out accuracy of 20 %.",
        "see whether chosen and rejected are swapped in part of the data (prefine data audit)",
        "roll back",
    ),
    Rule(
        "memorised",
        _memorised,
        "Every training pair told apart, a loss near zero, margins that still grow, and held-out pairs not as good.",
        "Pairs are memorised; what follows costs the model's other skills.",
        "Accuracy 1.0 and margins of 20 in the second epoch.",
        "train for fewer epochs, or lower the learning rate",
        "stop",
    ),
    Rule(
        "chosen-falls",
        _chosen_falls,
        "The chosen responses' log-probability falls below the reference's: 15 % of it is noted, 30 % warned about, 60 % acted upon.",
        "DPO is content where rejected responses fall faster than chosen ones (likelihood displacement): the model then says neither.",
        "rewards/chosen at -4 with beta 0.1, rewards/rejected at -9.",
        "add the chosen responses' NLL (--loss-type sigmoid sft --loss-weights 1 0.2), or lower the learning rate",
        "add nll",
    ),
    Rule(
        "held-out-rises",
        _held_out_rises,
        "Two evaluations in a row more than 5 % above the least held-out loss.",
        "What is learned now is true of the training data alone.",
        "eval_loss 0.55, 0.52, 0.58, 0.63.",
        "stop where it was least: train for fewer steps, or lower the learning rate",
        "stop",
    ),
    Rule(
        "accuracy-falls",
        _accuracy_falls,
        "Held-out accuracy over the last two evaluations surely below its best.",
        "The loss may still fall: what it learns does not hold elsewhere.",
        "64 %, 66 %, 61 %, 58 %, while the training loss falls.",
        "train for fewer steps, or lower the learning rate",
    ),
    Rule(
        "held-out-stops",
        _held_out_stops,
        "Held-out accuracy whose best lies more than a third of the run back, while the training loss fell by 15 % and more since.",
        "What is learned since is of the training pairs alone.",
        "61 % from step 190 to 300, with a training loss that goes from 0.63 to 0.5.",
        "train for fewer passes over the data, or keep the checkpoint of that step",
    ),
    Rule(
        "at-chance",
        _at_chance,
        "Accuracy that stays at one half in the second half of the run.",
        "Nothing is learned of the preferences: labels are random, the rate is too low, or the responses cannot be told apart.",
        "49.8 %, 50.3 %, 50.1 %.",
        "look at the pairs (prefine data show), and at conflicting labels (prefine data audit); raise the learning rate",
    ),
    Rule(
        "empty-responses",
        _empty_responses,
        "Log-probs of chosen and rejected responses that are exactly 0.",
        "No token of a response counts: the data is empty, or everything is masked.",
        "logps/chosen 0.0, logps/rejected 0.0, loss 0.6931.",
        "look at the tokens that count: prefine data show --model M --tokens",
        "stop",
    ),
    Rule(
        "zero-loss",
        _zero_loss,
        "A loss of 0 in fine-tuning, three logs in a row.",
        "Either no token counts (all labels masked), or the data is memorised.",
        "1.9, then 0.0 for good.",
        "look at the tokens that count: prefine data show --model M --tokens",
        "stop",
    ),
    Rule(
        "loss-spike",
        _loss_spike,
        "A single loss above three times the usual one; of the first five logs, any but the first.",
        "Broken rows, or the start of a divergence.",
        "0.66, 0.72, 4.27, 0.77.",
        "look at the rows of that step; clip gradients (--max-grad-norm 1)",
    ),
    Rule(
        "odd-rows",
        _odd_rows,
        "Chosen responses whose log-prob a token lies far below that of the others, before training: 2 % of the rows and more.",
        "A corrupted chunk, another language or another encoding: the loss pulls hardest at what is least likely.",
        "300 rows of random letters in 1,300.",
        "see them (events.jsonl names their rows), and filter the data: prefine data filter",
    ),
    Rule(
        "gap",
        _gap_grows,
        "Accuracy on training pairs more than 20 points, and surely, above that on held-out pairs.",
        "The model tells its training pairs apart by what does not hold elsewhere.",
        "95 % and 61 %.",
        "train for fewer epochs, or give more pairs",
    ),
    Rule(
        "epoch-staircase",
        _staircase,
        "The loss drops at once where a new pass over the data begins, and hardly within a pass.",
        "Each pass repeats what the last one memorised.",
        "0.60 all through the first epoch, 0.35 from the second's first step.",
        "one epoch is enough for DPO",
    ),
    Rule(
        "entropy-collapse",
        _entropy,
        "Entropy of the next token below a tenth of what it was at the start.",
        "A model that says one thing only no longer explores, and repeats itself.",
        "2.1 nats at the start, 0.1 now.",
        "lower the learning rate, raise --beta or the KL coefficient",
        "roll back",
    ),
    Rule(
        "slower",
        _slower,
        "Tokens a second at a quarter of what they were.",
        "Another process took the machine, memory is swapped, or lengths have grown.",
        "4,000 tokens/s at the start, 800 now.",
        "see what else runs on the machine",
    ),
    Rule(
        "memory-grows",
        _memory,
        "Peak memory that rises from log to log in the last third of the run.",
        "It ends out of memory.",
        "6 GiB, then 9, then 12.",
        "look for callbacks that keep tensors; --resume goes on after a restart",
    ),
)
