"""``prefine dpo``: preference pairs and a model in, an aligned model and a verdict out."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefine.cli.data.reading import column_map, describe, dropped_text
from prefine.errors import ConfigError

ABOUT = "Aligns a model on preference pairs by DPO or one of its family, and says whether it worked."
SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_second")

MEANINGLESS = {"dropped": 0.5, "conflicting-labels": 0.3, "equal-normalised": 0.3}
"""Shares of rows above which training on what is left would show nothing."""


def check_findings(findings: list[dict[str, Any]], ignore: bool) -> None:
    """Stop before a training that cannot mean anything.

    Raises:
        ConfigError: what was found, and how to go on all the same.
    """
    bad = [f"{f['check']}: {f['detail']}" for f in findings if f["share"] > MEANINGLESS.get(f["check"], 1.0)]
    if bad and not ignore:
        raise ConfigError(f"training on this would mean nothing: {'; '.join(bad)}. Mend the data, or go on with --ignore-audit")


def check_cut(encoding: dict[str, Any], ignore: bool) -> None:
    """Stop where most pairs are equal once cut."""
    cut = encoding["dropped"].get("answers are equal once cut or tokenised", {"count": 0})["count"]
    if cut > 0.5 * (cut + encoding["encoded"]) and not ignore:
        raise ConfigError(f"{cut} pairs differ only in what --max-length cuts off, most of all; raise it, or go on with --ignore-audit")


def findings_lines(findings: list[dict[str, Any]]) -> list[str]:
    """A line for each of the audit's findings that is not fine, worst first; five at most."""
    order = sorted((f for f in findings if f["grade"] != "fine" and f["check"] != "dropped"), key=lambda f: f["grade"] != "fix")
    lines = [f"audit, {'must be fixed' if f['grade'] == 'fix' else 'look at'}: {f['check']}: {f['detail']}" for f in order]
    more = [f"audit: {len(lines) - 4} more; prefine data audit shows all"] if len(lines) > 5 else []
    return [*(lines[:4] if more else lines), *more]


def main(argv: list[str]) -> int:
    """Train, judge on held-out pairs, print the verdict."""
    from prefine.audit.audit import audit
    from prefine.cli.training_run import announce, parameters_line, plan, show_progress, train
    from prefine.packing.encoded import encode_source, remembered
    from prefine.packing.store import hold_out
    from prefine.preferences.convert import PairSource, Reading
    from prefine.report.run_page import write_report
    from prefine.training.config import DPOConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.record import RecordRun

    planned = plan("dpo", ABOUT, DPOConfig, argv)
    if planned is None:
        return 0
    # Data before the model: a wrong column should not cost a minute of loading.
    own, args = planned.options, planned.args
    reading = Reading(column_map(own.map), own.format, own.pairing, own.min_gap, args.seed)
    pairs = PairSource(own.sources, reading, own.data_weights)
    audited = remembered("audits", pairs.fingerprint, lambda: audit(own.sources, reading, near=False).summary())
    check_findings(audited["findings"], own.ignore_audit)
    data = encode_source(pairs, args.encoder(planned.tokenizer))
    check_cut(data.encoding, own.ignore_audit)
    if own.eval_data:
        train_groups, held_out = data.groups, encode_source(PairSource(own.eval_data, reading), args.encoder(planned.tokenizer)).groups
        held_keys: list[str] = []
    else:
        keys = data.groups.prompt_keys()
        held = hold_out(keys, own.eval_fraction, args.seed)
        train_groups, held_out = data.groups.select(np.flatnonzero(~held)), data.groups.select(np.flatnonzero(held))
        held_keys = sorted({f"{key:016x}" for key in keys[held].tolist()})
    started = planned.start(data.key)
    started.run.write_data(data.data | {"encoding": data.encoding, "audit": audited, "held_out_prompts": held_keys, "key": data.key})
    trainer = DPOTrainer(
        started.model,
        None,
        args,
        train_dataset=train_groups,
        processing_class=started.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    encoding = data.encoding
    announce(
        [
            f"data: {data.data['source']}: {describe(data.data)}" + (" (encoded by an earlier run)" if data.reused else ""),
            f"pairs: {len(train_groups)} trained on, {len(held_out)} held out; "
            f"dropped in encoding: {dropped_text(encoding['dropped'])}; "
            f"cut: {encoding['cut'] or 'none'}; boundary merges: {encoding['boundary_merges']}",
            *findings_lines(audited["findings"]),
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            f"loss {'+'.join(args.loss_type)}, beta {args.beta}, learning rate {args.learning_rate}; run directory: {started.run.path}",
        ]
    )
    show_progress(trainer, SHOWN)
    train(trainer, started)
    if len(held_out):
        from prefine.cli.eval import judge_held_out

        verdict = judge_held_out(trainer, held_out, started.run)
        announce(["", verdict.sentence])
    else:
        announce(["no pairs were held out, so there is no verdict; give --eval-data or --eval-fraction"])
    announce([f"report: {write_report(started.run)}"])
    return 0
