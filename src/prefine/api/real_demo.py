"""A real chat model from nothing to a verdict, by the calls that anybody has: its own responses, pairs of them, DPO, evaluation."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefine.api.dpo import dpo
from prefine.api.own_pairs import make_pairs
from prefine.api.progress import Progress
from prefine.api.quiet import quiet_transformers
from prefine.api.tables import Table
from prefine.runs import RunDirectory, read_json, write_json, write_jsonl, write_text

if TYPE_CHECKING:
    from prefine.evaluation.judge import Comparison
    from prefine.evaluation.model_pair import ModelPair
    from prefine.evaluation.questions import Question

JUDGE = "prefine.lab.constraints:met"
TRAINED, NEVER = "constraints", "unseen-constraint"
"""Names of the two evaluations."""


@dataclass(frozen=True)
class Sizes:
    """How much is sampled, trained and asked; what is here takes about a quarter of an hour on two cores.

    Attributes:
        samples: of each prompt, for pairs; times: how often each unseen prompt is asked of base and tuned.
        tokens: maximum of a response; temperature: of those for pairs; steps: of DPO, of ``batch`` pairs.
    """

    topics: int = 24
    unseen: int = 32
    samples: int = 8
    times: int = 1
    tokens: int = 64
    temperature: float = 0.8
    steps: int = 60
    batch: int = 8
    facts: int = 40
    text: int = 16_000

    def quick(self) -> Sizes:
        """A smoke test's size; its verdict means nothing."""
        return Sizes(topics=3, unseen=2, samples=4, times=1, tokens=32, steps=2, batch=4, facts=4, text=6_000)


class Clock(Progress):
    """Passes on what is told, and says now and then how far the whole is.

    Args:
        shares: each part's share of the whole, by its name, in order; spent: seconds of earlier calls that were killed.
    """

    EVERY = 60.0

    def __init__(self, told: Progress, shares: Mapping[str, float], spent: float = 0.0) -> None:
        self.told, self.shares = told, shares
        self.part, self.before = "", 0.0
        self.done: dict[str, int] = {}
        self.began = self.last = time.monotonic()
        self.spent = spent

    def begin(self, part: str) -> None:
        """A part begins; those before it are over."""
        self.before = sum(share for name, share in list(self.shares.items())[: list(self.shares).index(part)])
        self.part, self.done = part, {}
        self.told.finish()
        self.told.say(["", f"{list(self.shares).index(part) + 1} of {len(self.shares)}: {part}"])

    def _look(self, share: float) -> None:
        now = time.monotonic()
        done = self.before + self.shares.get(self.part, 0.0) * min(share, 1.0)
        if now - self.last < self.EVERY or done < 0.02:
            return
        self.last = now
        spent = (self.spent + now - self.began) / 60
        left = spent * (1 - done) / done
        self.told.say(f"[{spent:.0f} min since the start, about {max(left, 1):.0f} left]")

    def say(self, lines: str | Iterable[str]) -> None:
        """As told."""
        self.told.say(lines)

    def stage(self, name: str) -> None:
        """As told."""
        self.told.stage(name)

    def advance(self, stage: str, done: int, total: int | None) -> None:
        """As told, and counted."""
        self.told.advance(stage, done, total)
        self.done[stage] = self.done.get(stage, 0) + done
        if total:
            self._look(self.done[stage] / total)

    def step(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """As told, and counted."""
        self.told.step(step, total, metrics)
        self._look(step / total)

    def finish(self) -> None:
        """As told."""
        self.told.finish()


SHARES = {"responses and pairs": 0.28, "training": 0.48, "evaluation": 0.24}
"""Of the time, as measured on two cores."""


def real_demo(sizes: Sizes, seeds: Sequence[int], folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """What :func:`one_seed` found for each seed; what an earlier call finished in ``folder`` is read, not done again.

    Raises:
        ConfigError: the packages that bring the model are not installed.
    """
    quiet_transformers()
    from prefine.lab.chat_model import build_chat_model

    base = folder / "base"
    if not (base / "tokenizer_config.json").exists():  # written last
        shutil.rmtree(base, ignore_errors=True)
        progress.stage("writing the model")
        build_chat_model(base)
    out = []
    for seed in seeds:
        place = folder / f"seed-{seed}"
        kept = place / "found.json"
        if not kept.exists() or read_json(kept)["sizes"] != asdict(sizes):
            if (place / "sizes.json").exists() and read_json(place / "sizes.json") != asdict(sizes):
                shutil.rmtree(place)
            place.mkdir(parents=True, exist_ok=True)
            write_json(place / "sizes.json", asdict(sizes))
            write_json(kept, one_seed(sizes, seed, base, place, progress))
        out.append(read_json(kept))
    return out


def one_seed(sizes: Sizes, seed: int, base: Path, folder: Path, progress: Progress) -> dict[str, Any]:
    """Sample, pair, train and judge with one seed; a call that was killed goes on where it was."""
    from prefine.evaluation.model_pair import ModelPair
    from prefine.lab.constraints import CONSTRAINTS, HELD_OUT, TOPICS, met, questions
    from prefine.report.run_page import write_report
    from prefine.training.peak_memory import forget_peak_memory, peak_memory_bytes

    laps, here = folder / "laps.json", dict.fromkeys(SHARES, 0.0)
    before: Any = read_json(laps) if laps.exists() else {"seconds": dict(here), "peak_bytes": 0}  # of calls that were killed
    clock = Clock(progress, SHARES, sum(before["seconds"].values()))
    found: dict[str, Any] = {}

    def lap(part: str) -> None:
        here[part] = time.monotonic() - clock.began - sum(here.values())
        seconds = {name: round(before["seconds"][name] + here[name], 1) for name in SHARES}
        found.update(seconds=seconds, peak_bytes=max(before["peak_bytes"], peak_memory_bytes()))
        write_json(laps, {name: found[name] for name in ("seconds", "peak_bytes")})

    forget_peak_memory()
    clock.begin("responses and pairs")
    write_prompts(folder / "prompts.jsonl", questions(TOPICS[:-HELD_OUT][: sizes.topics], CONSTRAINTS))
    pairs = folder / "pairs.jsonl"
    made = make_pairs(
        str(base),
        str(folder / "prompts.jsonl"),
        str(pairs),
        judge=met,
        num_samples=sizes.samples,
        pairing="all",
        max_new_tokens=sizes.tokens,
        temperature=sizes.temperature,
        seed=seed,
        progress=clock,
    )
    clock.say(made.lines)
    lap("responses and pairs")
    clock.begin("training")
    run = folder / "dpo"
    dpo(
        str(base),
        str(pairs),
        str(run),
        lora_r=16,
        learning_rate=1e-4,
        per_device_train_batch_size=sizes.batch,
        max_steps=sizes.steps,
        gradient_checkpointing=False,
        save_strategy="steps",
        save_steps=max(1, sizes.steps // 3),
        save_total_limit=1,
        final_eval="off",
        guard_prompts=0,
        seed=seed,
        resume=run.exists(),
        progress=clock,
    )
    lap("training")
    clock.begin("evaluation")
    directory = RunDirectory.open(str(run))
    found |= judged(sizes, seed, ModelPair.load(directory), directory.path / "eval", clock)
    for name in (TRAINED, NEVER):
        directory.add_look(name, found[name])
    write_report(directory)
    lap("evaluation")
    return found | {"seed": seed, "sizes": asdict(sizes), "pairs": made.count}


def write_prompts(path: Path, questions: Sequence[Question]) -> None:
    """Questions as a file that every command reads."""
    rows: list[dict[str, Any]] = [{"prompt": list(q.prompt), "category": q.category, "cluster": q.cluster} for q in questions]
    write_jsonl(path, rows)


def judged(sizes: Sizes, seed: int, models: ModelPair, folder: Path, progress: Progress) -> dict[str, Any]:
    """Base against tuned on topics and a constraint that were never trained on, on questions of fact and ordinary text.

    Args:
        folder: of the evaluations, one a constraint that was trained on or was not.
    """
    from prefine.evaluation.evaluate import Extras, evaluate
    from prefine.evaluation.judge import ByScore, TextFunctionScorer
    from prefine.evaluation.regression import paired_skill
    from prefine.evaluation.verdict import THRESHOLDS
    from prefine.generation.engine import Sampling
    from prefine.lab.constraints import CONSTRAINTS, HELD_OUT, TOPICS, UNSEEN, met, ordinary_text, questions

    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "ordinary.txt"
    write_text(text, ordinary_text(sizes.text))
    right = [facts_right(models, tuned, sizes.facts) for tuned in (False, True)]
    skill = paired_skill("questions of fact", right[0], right[1], THRESHOLDS.tolerance)
    topics = TOPICS[-HELD_OUT:][: sizes.unseen]
    out: dict[str, Any] = {}
    for name, constraints in ((TRAINED, CONSTRAINTS), (NEVER, (UNSEEN,))):
        progress.finish()
        main, place = name == TRAINED, folder / name
        place.mkdir(parents=True, exist_ok=True)
        asked = questions(topics, constraints, sizes.times)
        write_prompts(folder / f"{name}.jsonl", asked)
        found = evaluate(
            models,
            asked,
            ByScore(TextFunctionScorer(JUDGE, met)),
            place,
            Sampling(sizes.tokens, 0.7),
            seed + 1,
            Extras(texts=[str(text)] if main else (), skills=[skill] if main else ()),
            progress=progress.advance,
        )
        summary = found.summary
        kept = ("outcome", "sentence", "win_rate", "drift", "degeneration", "judge", "repeat")
        out[name] = met_by(found.comparisons) | {k: summary[k] for k in kept}
        if main:
            out |= {"perplexity": summary["perplexity"][0], "facts": asdict(skill), "samples": side_by_side(found.comparisons)}
    return out


def facts_right(models: Any, tuned: bool, count: int) -> dict[str, float]:
    """Which questions of fact one side answers, greedily: 1 or 0."""
    from prefine.evaluation.questions import user_turn
    from prefine.generation.engine import Request, Sampling
    from prefine.lab.constraints import FACTS, knows

    asked = list(FACTS)[:count]
    with models.engine(tuned) as engine:
        found = dict(engine.answers([Request(user_turn(q), 0) for q in asked], Sampling(24, 0.0)))
    return {q: float(knows(q, found[i].text)) for i, q in enumerate(asked)}


def met_by(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """How often base and tuned meet what is demanded: of all, the change with its interval over topics, and by constraint."""
    from prefine.evaluation.interval import CHANGE, RATE, mean_interval
    from prefine.lab.constraints import met
    from prefine.preferences.records import plain_text

    topics = [c.question.cluster for c in comparisons]
    sides = [[met(plain_text(c.prompt), c.sides[side].answers[-1]) for c in comparisons] for side in (0, 1)]
    each = {}
    for name in dict.fromkeys(c.question.category for c in comparisons):
        own = [i for i, c in enumerate(comparisons) if c.question.category == name]
        each[name] = [sum(side[i] for i in own) / len(own) for side in sides]
    change = mean_interval([b - a for a, b in zip(*sides, strict=True)], topics, bounds=CHANGE)
    return {"met": [asdict(mean_interval(side, topics, bounds=RATE)) for side in sides], "change": asdict(change), "each": each}


def side_by_side(comparisons: Sequence[Comparison], most: int = 4) -> list[tuple[str, str, str]]:
    """Prompt and both responses of a few comparisons, each of another constraint and another topic, as they come."""
    from prefine.preferences.records import plain_text

    by_constraint: dict[str, list[Comparison]] = {}
    for c in comparisons:
        by_constraint.setdefault(c.question.category, []).append(c)
    chosen = [own[place % len(own)] for place, own in enumerate(by_constraint.values())]
    return [(plain_text(c.prompt), c.base[-1], c.tuned[-1]) for c in chosen[:most]]


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """A column a seed, a row for what was measured, base and tuned in a cell."""
    rows: list[list[str]] = []

    def line(label: str, cell: Any) -> None:
        rows.append([label, *(cell(f) for f in found)])

    def estimates(part: Mapping[str, Any]) -> str:
        return moved([side["estimate"] for side in part["met"]])

    def change(part: Mapping[str, Any]) -> str:
        c = part["change"]
        return f"{100 * c['estimate']:+.0f} [{100 * c['low']:+.0f}, {100 * c['high']:+.0f}]"

    def ended(part: Mapping[str, Any]) -> str:
        return next((moved([1 - d["base"], 1 - d["tuned"]]) for d in part["degeneration"] if d["name"] == "not ended"), "")

    line("constraints met, unseen topics", lambda f: estimates(f["constraints"]))
    line("  change, points, 95 % CI", lambda f: change(f["constraints"]))
    for name in found[0]["constraints"]["each"]:
        line(f"  {name}", lambda f, name=name: moved(f["constraints"]["each"][name]))
    line("a constraint never trained on", lambda f: estimates(f["unseen-constraint"]))
    line("  change, points, 95 % CI", lambda f: change(f["unseen-constraint"]))
    line("win rate over the base", lambda f: percent(f["constraints"]["win_rate"]))
    line("verdict", lambda f: f["constraints"]["outcome"])
    line("responses that end", lambda f: ended(f["constraints"]))
    line("questions of fact", lambda f: moved([f["facts"]["before"], f["facts"]["after"]]))
    line("perplexity of ordinary text", lambda f: f"{f['perplexity']['before']:.1f} to {f['perplexity']['after']:.1f}")
    line(
        "KL to base (nats/token)",
        lambda f: f"{f['constraints']['drift']['per_token']['estimate']:.2f}" if f["constraints"]["drift"] else "",
    )
    line("pairs", lambda f: f"{f['pairs']:,}")
    for part in SHARES:
        line(f"seconds: {part}", lambda f, part=part: f"{f['seconds'][part]:.0f}")
    line("peak memory (MiB)", lambda f: f"{f['peak_bytes'] / 2**20:,.0f}")
    title = "SmolLM2-135M-Instruct, LoRA, DPO on pairs of its own responses"
    return Table(["", *(f"seed {f['seed']}" for f in found)], rows, title, numbers=frozenset(range(1, 1 + len(found))))


def moved(pair: Sequence[float]) -> str:
    """Shares of base and tuned, in percent."""
    return f"{100 * pair[0]:.0f} to {100 * pair[1]:.0f} %"


def percent(rate: Mapping[str, float]) -> str:
    """A rate with its interval."""
    return f"{100 * rate['estimate']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def not_learnt(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Constraints that the base met so seldom that there was next to nothing to learn them from."""
    names = found[0]["constraints"]["each"]
    return [n for n in names if all(max(f["constraints"]["each"][n]) < 0.05 for f in found)]
