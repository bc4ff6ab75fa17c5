"""What shows in responses to a few held-out prompts, sampled now and then: loops, lengths, ends, the win rate so far. No torch."""

from __future__ import annotations

from prefine.guard.history import History
from prefine.guard.rule import Rule, Seen


def _loops(h: History) -> Seen | None:
    loops, repeated = h.last("probe/loops_change"), h.last("probe/repetition_change")
    if loops is None or repeated is None or (loops < 0.2 and repeated < 0.2):
        return None
    what = f"{100 * loops:.0f} points more of the responses end in a loop" if loops >= 0.2 else ""
    more = f"{100 * repeated:.0f} points more of a response are repeats" if repeated >= 0.2 else ""
    return Seen(" and ".join(w for w in (what, more) if w), "act" if max(loops, repeated) >= 0.4 else "warn")


def _empty(h: History) -> Seen | None:
    change = h.last("probe/empty_change")
    return Seen(f"{100 * change:.0f} points more of the responses are empty", "act") if change is not None and change > 0.15 else None


def _endless(h: History) -> Seen | None:
    change = h.last("probe/ended_change")
    return Seen(f"{-100 * change:.0f} points fewer of the responses end") if change is not None and change < -0.4 else None


def _length(h: History) -> Seen | None:
    ratio = h.last("probe/length_ratio")
    if ratio is None or 0.33 < ratio < 3:
        return None
    return Seen(f"responses are {ratio:.2g} times as long as the base's", "note")


def _losing(h: History) -> Seen | None:
    rate, high = h.last("probe/win_rate"), h.last("probe/win_rate_high")
    if rate is None or high is None or high >= 0.5:
        return None
    before = h.of("probe/win_rate_high")[-2:]
    sure = len(before) == 2 and max(before) < 0.5  # one look at a few prompts may err
    return Seen(
        f"the judge prefers the base's responses: win rate {100 * rate:.0f} %, at most {100 * high:.0f} %", "act" if sure else "warn"
    )


RULES = (
    Rule(
        "repetition",
        _loops,
        "Twenty points more of the responses end in a loop, or of their 4-grams are repeats, than before training.",
        "The commonest way in which a preference-tuned model breaks; the loss does not show it.",
        '"I am sorry I am sorry I am sorry".',
        "lower the learning rate, raise --beta, or add the chosen responses' NLL (--loss-type sigmoid sft --loss-weights 1 0.2)",
        "roll back",
    ),
    Rule(
        "empty",
        _empty,
        "Fifteen points more of the responses are empty than before training.",
        "The model has learned to say nothing.",
        "A rejected response that is always the longer one.",
        "look at the data for empty or very short chosen responses (prefine data audit)",
        "roll back",
    ),
    Rule(
        "does-not-end",
        _endless,
        "Forty points fewer of the responses end within the limit.",
        "EOS is forgotten where truncated responses are trained on, or rejected ones all end.",
        "Chosen responses truncated at --max-length.",
        "raise --max-length, or drop truncated rows",
    ),
    Rule(
        "length-drift",
        _length,
        "Responses three times as long, or a third as long, as before training.",
        "Length is the commonest shortcut of preference data.",
        "Chosen responses twice as long as rejected ones.",
        "see the audit's length check, and read the length-controlled win rate",
    ),
    Rule(
        "losing",
        _losing,
        "The judge prefers the base's responses to the held-out probe, with its interval below one half; twice in a row is acted upon.",
        "The model gets worse, whatever the loss says: swapped labels, a wrong reference, too high a rate.",
        "Win rate 18 % [9, 33] a third into the run.",
        "see whether chosen and rejected are swapped; lower the learning rate",
        "stop",
    ),
)
