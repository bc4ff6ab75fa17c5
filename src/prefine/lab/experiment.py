"""The lab from nothing to a verdict: a base, pairs from its own answers, DPO, evaluation.

Every stage goes through the
product's own trainers, loaders and run directory.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefine.audit.audit import audit
from prefine.evaluation.answers import Answered
from prefine.evaluation.evaluate import Extras
from prefine.evaluation.evaluate import evaluate as evaluate_sides
from prefine.evaluation.interval import CHANGE, Interval, mean_interval
from prefine.evaluation.judge import ByScore, FunctionScorer
from prefine.evaluation.model_pair import ModelPair
from prefine.evaluation.questions import Question
from prefine.evaluation.regression import skill_of
from prefine.evaluation.verdict import THRESHOLDS, Verdict
from prefine.generation.engine import Answer, Sampling
from prefine.generation.generate import generate
from prefine.lab.language import MAX_REPLY_TOKENS, Fact, Gold, corpus_reply, gold, split_facts, split_tickets
from prefine.lab.model import build_model, build_tokenizer
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.preferences.convert import PairSource
from prefine.preferences.records import plain_text
from prefine.runs import RunDirectory, read_json, write_json, write_jsonl

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is in all."""


@dataclass(frozen=True)
class Settings:
    """The lab's knobs; what is here was found on seeds 0 and 1."""

    seed: int = 0
    sft_steps: int = 600
    sft_chat_per_step: int = 50
    sft_facts_per_step: int = 90
    sft_learning_rate: float = 3e-3
    pair_prompts: int = 1500
    label_flips: float = 0.10
    dpo_epochs: float = 3.0
    dpo_batch_size: int = 32
    dpo_learning_rate: float = 1.5e-3
    dpo_loss: str = "sigmoid"
    dpo_beta: float = 0.1
    dpo_nll_weight: float = 0.2
    retain: bool = True
    retain_weight: float = 1.0
    retain_batch_size: int = 64
    samples_per_prompt: int = 2

    def quick(self) -> Settings:
        """A smoke test's size; its verdict means nothing."""
        return replace(self, sft_steps=12, pair_prompts=60, dpo_epochs=1.0, samples_per_prompt=1)


@dataclass
class Outcome:
    """What a lab run shows."""

    settings: Settings
    verdict: Verdict
    gold_base: dict[str, float]
    gold_tuned: dict[str, float]
    gold_change: Interval
    facts_held_out: tuple[float, float]
    kl_nats: float
    length_words: tuple[float, float]
    seconds: dict[str, float]
    samples: list[tuple[str, str, str]]
    pairs: int


def user(text: str) -> tuple[dict[str, str], ...]:
    """A one-turn conversation."""
    return ({"role": "user", "content": text},)


def _rows(prompts: list[str], answers: list[str]) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": a}]} for p, a in zip(prompts, answers, strict=True)
    ]


def progress_callback(progress: Progress, stage: str) -> Any:
    """A Trainer callback that reports optimizer steps."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress(stage, state.global_step, state.max_steps)

    return Steps()


def quiet(trainer: Any) -> None:
    """Leave the terminal to the lab's own bars."""
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


def trainer_settings(settings: Settings, folder: Path) -> dict[str, Any]:
    """What all of the lab's trainers are given."""
    return {
        "output_dir": str(folder),
        "seed": settings.seed,
        "max_length": 128,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def retention_settings(settings: Settings, retain: Path | None, batch_size: int | None = None) -> dict[str, Any]:
    """What a trainer is given to keep the facts; nothing for None."""
    if retain is None:
        return {}
    return {"retain": str(retain), "retain_weight": settings.retain_weight, "retain_batch_size": batch_size or settings.retain_batch_size}


def train_base(settings: Settings, folder: Path, progress: Progress) -> Any:
    """Train the base by SFT on the mixed corpus and save it with its tokenizer; returns the model."""
    from prefine.training.config import SFTConfig
    from prefine.training.sft import SFTTrainer

    rng = random.Random(f"corpus {settings.seed}")
    tickets, _ = split_tickets()
    chosen = [rng.choice(tickets) for _ in range(min(12_000, settings.sft_steps * settings.sft_chat_per_step))]
    tokenizer = build_tokenizer()
    encoder = Encoder(tokenizer)
    facts, _ = split_facts()
    chat = _encode(encoder, _rows([t.prompt for t in chosen], [corpus_reply(t, rng) for t in chosen]))
    known = _encode(encoder, _rows([f.prompt for f in facts], [f.answer for f in facts]))
    share = settings.sft_facts_per_step / settings.sft_chat_per_step
    groups = chat + [known[i % len(known)] for i in range(round(len(chat) * share))]
    args = SFTConfig(
        max_steps=settings.sft_steps,
        per_device_train_batch_size=settings.sft_chat_per_step + settings.sft_facts_per_step,
        learning_rate=settings.sft_learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(40, settings.sft_steps // 3),
        weight_decay=0.01,
        logging_steps=100,
        **trainer_settings(settings, folder.parent),
    )
    model = build_model(settings.seed)
    trainer = SFTTrainer(
        model, args, train_dataset=groups, processing_class=tokenizer, callbacks=[progress_callback(progress, "base model")]
    )
    quiet(trainer)
    trainer.train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def _encode(encoder: Encoder, rows: list[dict[str, Any]]) -> list[PromptGroup]:
    from prefine.preferences.examples import examples_of

    encoded = [encoder.encode(e.prompt, [e.answer]) for e in examples_of(rows, "the lab's corpus", {}) if e.answer is not None]
    return [g for g in encoded if g is not None]


def replies(
    model: Any, tokenizer: Any, prompts: list[str], seed: int, temperature: float, on_done: Callable[[int], None] = lambda done: None
) -> list[Answer]:
    """Sampled replies to prompts of the lab."""
    encoder = Encoder(tokenizer)
    cache = {p: encoder.prompt_ids(user(p)) for p in dict.fromkeys(prompts)}
    sampling = Sampling(MAX_REPLY_TOKENS, temperature)
    answers: dict[int, Answer] = {}
    for place, answer in generate(model, tokenizer, [cache[p] for p in prompts], sampling, _seeds(seed, len(prompts)), 512):
        answers[place] = answer
        on_done(1)
    return [answers[i] for i in range(len(prompts))]


def _seeds(seed: int, count: int) -> list[int]:
    return [seed << 32 | i for i in range(count)]


def pair_row(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    """A pair as messages."""
    sides = {"chosen": chosen, "rejected": rejected}
    return {"prompt": list(user(prompt))} | {name: [{"role": "assistant", "content": text}] for name, text in sides.items()}


def make_pairs(model: Any, tokenizer: Any, settings: Settings, path: Path, progress: Progress) -> int:
    """Two samples of the base for each prompt, labelled by gold with flips; ties dropped. Returns the count."""
    rng = random.Random(f"pairs {settings.seed}")
    tickets, _ = split_tickets()
    prompts = [t.prompt for t in (rng.choice(tickets) for _ in range(settings.pair_prompts))]
    done = [0]

    def on_done(count: int) -> None:
        done[0] += count
        progress("pairs", done[0], 2 * len(prompts))

    answers = replies(model, tokenizer, [p for p in prompts for _ in range(2)], settings.seed + 1, 1.0, on_done)
    rows = []
    for i, prompt in enumerate(prompts):
        first, second = answers[2 * i], answers[2 * i + 1]
        scores = [gold(prompt, a.text, a.ended).score for a in (first, second)]
        if scores[0] == scores[1]:
            continue
        chosen, rejected = (first, second) if scores[0] > scores[1] else (second, first)
        if rng.random() < settings.label_flips:
            chosen, rejected = rejected, chosen
        rows.append(pair_row(prompt, chosen.text, rejected.text))
    write_jsonl(path, rows)
    return len(rows)


def write_retention(path: Path) -> None:
    """The facts that were trained on, for ``--retain``."""
    facts, _ = split_facts()
    write_jsonl(path, _rows([f.prompt for f in facts], [f.answer for f in facts]))


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def run(settings: Settings, run: RunDirectory, progress: Progress = lambda stage, done, total: None) -> Outcome:
    """The whole laboratory, into a run directory."""
    from transformers import AutoModelForCausalLM

    seconds: dict[str, float] = {}
    tokenizer = build_tokenizer()
    base_folder, pairs_path, retain_path = run.path / "base", run.path / "pairs.jsonl", run.path / "retain.jsonl"
    with _timed(seconds, "base model"):
        model = train_base(settings, base_folder, progress)
    with _timed(seconds, "pairs"):
        pairs = make_pairs(model, tokenizer, settings, pairs_path, progress)
    write_retention(retain_path)
    with _timed(seconds, "DPO"):
        tuned = train_dpo(settings, run, base_folder, pairs_path, retain_path, progress)
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    with _timed(seconds, "evaluation"):
        outcome = evaluate(settings, base, tuned, tokenizer, run, progress)
    outcome.seconds, outcome.pairs = seconds, pairs
    summary = run.evaluation("lab") / "summary.json"
    write_json(summary, read_json(summary) | {"lab": _plain(outcome)})
    return outcome


def train_dpo(settings: Settings, run: RunDirectory, base: Path, pairs: Path, retain: Path, progress: Progress, warmup: float = 0.1) -> Any:
    """DPO from the base on the pairs file; saves and returns the tuned model.

    Args:
        warmup: share of the steps.
    """
    from prefine.training.config import DPOConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.record import RecordRun

    data = PairSource(str(pairs))
    args = DPOConfig(
        num_train_epochs=settings.dpo_epochs,
        per_device_train_batch_size=settings.dpo_batch_size,
        learning_rate=settings.dpo_learning_rate,
        warmup_steps=warmup,
        lr_scheduler_type="linear",
        logging_steps=0.05,
        beta=settings.dpo_beta,
        loss_type=[settings.dpo_loss, "sft"] if settings.dpo_nll_weight else settings.dpo_loss,
        loss_weights=[1.0, settings.dpo_nll_weight] if settings.dpo_nll_weight else None,
        **retention_settings(settings, retain if settings.retain else None),
        **trainer_settings(settings, run.checkpoints),
    )
    trainer = DPOTrainer(str(base), args=args, train_dataset=data, callbacks=[progress_callback(progress, "DPO"), RecordRun(run)])
    audited = audit([str(pairs)], data.reading, processes=1).summary()
    run.write_data(data.summary() | {"encoding": trainer.encoder.report.summary(), "audit": audited})
    trainer.on_event = run.append_event
    quiet(trainer)
    trainer.train()
    trainer.save_model(str(run.model))
    return trainer.scorer.unwrapped


def evaluate(settings: Settings, base: Any, tuned: Any, tokenizer: Any, run: RunDirectory, progress: Progress) -> Outcome:
    """Base against tuned on combinations neither was trained on, and the second skill before and after."""
    _, tickets = split_tickets()
    asked = [t for t in tickets for _ in range(settings.samples_per_prompt)]
    questions = [Question(f"{i}", user(t.prompt), cluster=t.combination) for i, t in enumerate(asked)]
    facts, held_out = split_facts()
    total = 2 * (len(asked) + len(facts) + len(held_out))
    done = [0]

    def on_done(count: int) -> None:
        done[0] += count
        progress("evaluation", done[0], total)

    right = [facts_right(m, tokenizer, [*facts, *held_out], on_done) for m in (base, tuned)]
    known = [[float(x) for x in r[: len(facts)]] for r in right]
    skill = skill_of("arithmetic", known[0], known[1], THRESHOLDS.tolerance)
    sides = ModelPair.of(tokenizer, base, tuned, ("the base", "the tuned model"))
    gold_judge = ByScore(FunctionScorer("gold", lambda a: _gold(a).score))
    found = evaluate_sides(
        sides,
        questions,
        gold_judge,
        run.evaluation("lab"),
        Sampling(MAX_REPLY_TOKENS, 1.0),
        settings.seed + 2,
        Extras(skills=(skill,)),
        progress=lambda stage, count, _: on_done(count) if stage == "answers" else None,
        batch_size=512,
    )
    verdict = found.found
    assert isinstance(verdict, Verdict)
    golds = [[_gold(side) for side in c.sides] for c in found.comparisons]
    clusters = [c.question.cluster for c in found.comparisons]
    differing = [c for c in found.comparisons if c.base != c.tuned] or found.comparisons
    picks = random.Random(settings.seed).sample(differing, min(3, len(differing)))
    lengths = {f["name"]: (f["base"], f["tuned"]) for f in found.summary["degeneration"]}["words"]
    return Outcome(
        settings,
        verdict,
        _parts([g for g, _ in golds]),
        _parts([g for _, g in golds]),
        mean_interval([b.score - a.score for a, b in golds], clusters, bounds=CHANGE),
        (sum(right[0][len(facts) :]) / len(held_out), sum(right[1][len(facts) :]) / len(held_out)),
        found.summary["drift"]["per_answer"]["estimate"],
        lengths,
        {},
        [(plain_text(c.prompt), c.base[-1], c.tuned[-1]) for c in picks],
        0,
    )


def _gold(answered: Answered) -> Gold:
    return gold(plain_text(answered.question.prompt), answered.answers[-1], answered.ended[-1])


def facts_right(model: Any, tokenizer: Any, facts: list[Fact], on_done: Callable[[int], None]) -> list[bool]:
    """Which facts a model still knows."""
    answers = replies(model, tokenizer, [f.prompt for f in facts], 0, 0.0, on_done)
    return [a.text == f.answer for a, f in zip(answers, facts, strict=True)]


def _parts(golds: list[Any]) -> dict[str, float]:
    count = len(golds)
    return {
        "score": sum(g.score for g in golds) / count,
        "fix": sum(g.fix for g in golds) / count,
        "device": sum(g.device for g in golds) / count,
        "apology": sum(g.apology for g in golds) / count,
        "rude": sum(g.rude for g in golds) / count,
        "extras": sum(g.extras for g in golds) / count,
        "garbage": sum(g.garbage for g in golds) / count,
        "ended": sum(g.ended for g in golds) / count,
    }


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {k: v for k, v in vars(outcome).items() if k not in ("verdict", "settings")} | {"settings": vars(outcome.settings)}
