"""``prefine eval RUN``: judge a finished DPO run on its held-out pairs, with a few answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, DataError
from prefine.preferences.records import Pair
from prefine.runs import RunDirectory, write_json, write_jsonl

if TYPE_CHECKING:
    from prefine.packing.group import PromptGroup
    from prefine.preferences.convert import PairSource


@dataclass
class EvalOptions:
    """Options of ``prefine eval``."""

    run: str = field(default="", metadata={"help": "Run directory (also as the first word)."})
    data: str | None = field(default=None, metadata={"help": "Other pairs to judge on. Unset: those the run held out."})
    map: list[str] | None = field(default=None, metadata={"help": "Columns by another name."})
    samples: int = field(default=3, metadata={"help": "Answers of base and tuned to print side by side."})
    max_new_tokens: int = field(default=128, metadata={"help": "Most tokens of a sampled answer."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})


def main(argv: list[str]) -> int:
    """Load base and tuned, judge, print the verdict."""
    options = options_of(EvalOptions, "options")
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("eval RUN", "Judges base against tuned on held-out pairs by DPO's own reward.", options))
        return 0
    given = EvalOptions(**parse(argv, options, ("run",)))
    if not given.run:
        raise ConfigError("eval needs a RUN: the --output-dir of a training run")
    run = RunDirectory.open(given.run)
    config = run.config()
    if "model" not in config:
        raise ConfigError(f"{given.run} is not a run of prefine dpo; its config.yaml names no model")
    from prefine.cli.data.reading import column_map
    from prefine.preferences.convert import PairSource, Reading

    reading = Reading(
        column_map(given.map or config.get("map")),
        None if given.data else config.get("format"),
        config.get("pairing", "best-vs-worst"),
        config.get("min_gap", 0.0),
        config.get("seed", 42),
    )
    sources = given.data or config.get("eval_data") or config["data"]
    pairs = PairSource(sources, reading, None if given.data or config.get("eval_data") else config.get("data_weights"))
    held = None if given.data or config.get("eval_data") else set(run.data().get("held_out_prompts", []))
    if held is not None and not held:
        raise DataError(f"{given.run} held out no pairs; give some with --data")
    return _judge(given, run, config, pairs, held)


def _judge(given: EvalOptions, run: RunDirectory, config: dict[str, Any], pairs: PairSource, held: set[str] | None) -> int:
    from prefine.packing.budget import TokenBudget
    from prefine.packing.encoding import Encoder
    from prefine.packing.store import prompt_key
    from prefine.scoring.loading import load_model, load_tokenizer
    from prefine.scoring.proof import prove_layout
    from prefine.scoring.reference import Reference
    from prefine.scoring.scorer import Scorer

    tokenizer = load_tokenizer(str(run.model))
    tuned = load_model(str(run.model))
    base = load_model(str(config["model"]))
    encoder = Encoder(
        tokenizer, config.get("max_length", 1024), config.get("max_prompt_length"), config.get("truncation_mode", "keep_start")
    )
    scorer = Scorer(tuned, prove_layout(tuned).layout)
    chosen = [(p, g) for p in pairs if (g := encoder.encode_pair(p)) is not None and (held is None or f"{prompt_key(g):016x}" in held)]
    if not chosen:
        raise DataError("none of the pairs that the run held out is in its data any more; give some with --data")
    groups = [g for _, g in chosen]
    verdict = implicit_verdict(scorer, Reference(scorer, base), groups, TokenBudget.of("auto", "cpu"), run)
    if given.samples:
        _samples(given, run, encoder, base, tuned, [p for p, _ in chosen])
    print(verdict.sentence)
    return 0


def judge_held_out(trainer: Any, groups: Sequence[PromptGroup], run: RunDirectory) -> Any:
    """The verdict on held-out pairs right after training, with the models in memory."""
    from prefine.scoring.loading import load_model
    from prefine.scoring.reference import Reference

    reference = trainer.reference
    if reference is None or next(reference.scorer.unwrapped.parameters()).is_meta:
        # The reference's weights were let go (precomputed) or never needed: load the start again.
        reference = Reference(trainer.scorer, load_model(str(run.config()["model"])).to(trainer.args.device))
    return implicit_verdict(trainer.scorer, reference, groups, trainer.budget, run)


def implicit_verdict(scorer: Any, reference: Any, groups: Sequence[PromptGroup], budget: Any, run: RunDirectory) -> Any:
    """Judge, decide, and write ``eval/implicit``."""
    from prefine.evaluation.interval import mean_interval
    from prefine.evaluation.judge import implicit_wins
    from prefine.evaluation.verdict import decide
    from prefine.packing.store import prompt_key

    wins = implicit_wins(scorer, reference, groups, budget)
    win_rate = mean_interval(wins, [str(prompt_key(g)) for g in groups])
    verdict = decide(win_rate, what="held-out pairs on which chosen gained on rejected")
    folder = run.evaluation("implicit")
    write_jsonl(folder / "verdicts.jsonl", ({"row": g.index, "tuned_wins": w} for g, w in zip(groups, wins, strict=True)))
    write_json(folder / "summary.json", verdict.summary() | {"judge": "implicit"})
    return verdict


def _samples(given: EvalOptions, run: RunDirectory, encoder: Any, base: Any, tuned: Any, pairs: list[Pair]) -> None:
    from rich.progress import Progress

    from prefine.evaluation.generate import generate

    asked = pairs[: given.samples]
    ids = [encoder.prompt_ids(p.prompt, p.tools) for p in asked]
    with Progress(transient=True) as bars:
        task = bars.add_task("answers of base and tuned", total=2 * len(ids))
        sides = [
            generate(m, encoder.tokenizer, ids, given.max_new_tokens, 1.0, given.seed, 8, lambda done: bars.advance(task, done))
            for m in (base, tuned)
        ]
    rows = [{"row": p.row, "prompt": p.prompt, "base": b.text, "tuned": t.text} for p, b, t in zip(asked, *sides, strict=True)]
    write_jsonl(run.evaluation("implicit") / "generations.jsonl", rows)
    from prefine.cli.data.reading import shown_text

    for row in rows:
        prompt, base_text, tuned_text = (shown_text(row[k]) for k in ("prompt", "base", "tuned"))
        print(f"--- row {row['row']}\nprompt: {prompt}\nbase:   {base_text}\ntuned:  {tuned_text}\n")
