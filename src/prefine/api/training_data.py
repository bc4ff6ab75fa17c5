"""Preference pairs, or labelled responses, read, audited, encoded and split, before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prefine.api.reading import column_map, counted, describe, dropped_text, reading_lines
from prefine.errors import ConfigError
from prefine.processes import first_then_others

if TYPE_CHECKING:
    from prefine.api.training_setup import TrainingSetup
    from prefine.evaluation.questions import Question
    from prefine.packing.encoded import Encoded
    from prefine.packing.group import PromptGroup
    from prefine.planning.lengths import Lengths
    from prefine.preferences.convert import PairSource

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


def check_encoding(encoding: dict[str, Any], ignore: bool) -> None:
    """Stop where the chat template leaves out part of most rows, or most pairs are equal once cut.

    Raises:
        ConfigError: the reasons with their counts, and how to go on all the same.
    """
    from prefine.packing.encoding import BY_TEMPLATE

    lost = {r: what["count"] for r, what in encoding["dropped"].items() if r.startswith(BY_TEMPLATE)}
    whole = encoding["encoded"] + sum(what["count"] for what in encoding["dropped"].values())
    if sum(lost.values()) > 0.5 * whole and not ignore:
        reasons = ", ".join(f"{count} because {reason}" for reason, count in lost.items())
        raise ConfigError(
            f"most rows cannot be trained on whole ({reasons}, of {whole}); give a model whose template writes them "
            "(prefine data show --model M --tokens shows what it writes), or go on with the rest by --ignore-audit"
        )
    cut = encoding["dropped"].get("responses are equal once truncated or tokenised", {"count": 0})["count"]
    if cut > 0.5 * (cut + encoding["encoded"]) and not ignore:
        raise ConfigError(f"{cut} pairs differ only in what --max-length truncates, most of all; raise it, or go on with --ignore-audit")


def findings_lines(findings: list[dict[str, Any]]) -> list[str]:
    """A line for each of the audit's findings that is not fine, worst first; five at most."""
    order = sorted((f for f in findings if f["grade"] != "fine" and f["check"] != "dropped"), key=lambda f: f["grade"] != "fix")
    lines = [f"audit, {'must be fixed' if f['grade'] == 'fix' else 'look at'}: {f['check']}: {f['detail']}" for f in order]
    more = [f"audit: {len(lines) - 4} more; prefine data audit shows all"] if len(lines) > 5 else []
    return [*(lines[:4] if more else lines), *more]


@dataclass
class PairData:
    """Pairs, or labelled responses, ready to train on.

    Attributes:
        train, held_out: groups; summary: what ``data.json`` holds.
        overlap: evaluation pairs that were left out, since their prompts are trained on.
        eval_key: what ``--eval-data`` is known by, None without.
    """

    pairs: PairSource
    encoded: Encoded
    train: Sequence[PromptGroup]
    held_out: Sequence[PromptGroup]
    summary: dict[str, Any]
    held_source: PairSource
    overlap: int = 0
    eval_key: str | None = None

    def lengths(self) -> Lengths:
        """Those of the pairs that are trained on."""
        from prefine.planning.lengths import Lengths

        return Lengths.of(self.train)

    def questions(self, encoder: Any, seed: int, most: int) -> list[Question]:
        """Held-out prompts in random order, at most so many, as they stand in the data."""
        from prefine.evaluation.questions import Question
        from prefine.packing.store import prompt_key
        from prefine.preferences.draws import prompt_text_key, share
        from prefine.preferences.labels import LabelledSource

        encode = encoder.encode_labelled if isinstance(self.held_source, LabelledSource) else encoder.encode_pair
        order = sorted({prompt_key(g): g.index for g in self.held_out}.items(), key=lambda item: share(item[0], seed))[:most]
        keys, rows = {key for key, _ in order}, {row for _, row in order}
        found: dict[int, Question] = {}
        for pair in self.held_source if rows else ():
            if pair.row not in rows:  # of the others not even the encoding is needed
                continue
            group = encode(pair)
            key = prompt_key(group) if group is not None else None
            if key in keys and key not in found:
                name = f"{prompt_text_key(pair):016x}"
                found[key] = Question(name, pair.prompt, cluster=name, tools=pair.tools, template_kwargs=pair.template_kwargs)
        return list({q.key: q for q in (found[key] for key, _ in order if key in found)}.values())

    def eval_dataset(self, args: Any) -> Sequence[PromptGroup] | None:
        """What is evaluated while training runs: the held-out pairs, where ``eval_strategy`` asks for it."""
        if args.eval_strategy == "no":
            return None
        if not len(self.held_out):
            raise ConfigError(f"--eval-strategy {args.eval_strategy.value}: nothing is held out; give --eval-data or --eval-fraction")
        return self.held_out

    def lines(self) -> list[str]:
        """What was read, dropped, held out and found."""
        data, encoding = self.encoded.data, self.encoded.encoding
        what = "pairs" if "pairs" in data else "labelled responses"
        return [
            f"data: {data['source']}: {describe(data)}" + (" (encoded by an earlier run)" if self.encoded.reused else ""),
            f"{what}: {len(self.train)} trained on, {len(self.held_out)} held out; "
            f"dropped in encoding: {dropped_text(encoding['dropped'])}; "
            f"truncated: {counted(encoding['cut'])}; boundary merges: {encoding['boundary_merges']}",
            *([f"{self.overlap} evaluation {what} are left out: their prompts are trained on"] if self.overlap else []),
            *reading_lines(data, encoding),
            *findings_lines(self.summary["audit"]["findings"]),
        ]


@first_then_others()
def read_pair_data(setup: TrainingSetup, labelled: bool = False) -> PairData:
    """Read what a training command names.

    Data before the model: a wrong column should not cost a minute of loading.

    Args:
        labelled: single responses with a label each, and of pairs both sides.

    Raises:
        PrefineError: data that cannot be read, or that training on would mean nothing.
    """
    from prefine.audit.audit import audit
    from prefine.packing.encoded import encode_source, remembered
    from prefine.packing.group import WANTED
    from prefine.packing.store import hold_out
    from prefine.preferences.convert import PairSource, Reading
    from prefine.preferences.labels import LabelledSource

    kind = LabelledSource if labelled else PairSource
    own, args, progress = setup.options, setup.args, setup.progress
    reading = Reading(column_map(own.map), own.format, own.pairing, own.min_gap, args.seed)
    pairs = kind(own.sources, reading, own.data_weights)
    progress.stage("auditing the data")
    audited = remembered("audits", pairs.fingerprint, lambda: audit(own.sources, reading, near=False).summary())
    check_findings(audited["findings"], own.ignore_audit)
    progress.stage("encoding the data")
    data = encode_source(pairs, args.encoder(setup.tokenizer), processes=args.dataset_num_proc)
    check_encoding(data.encoding, own.ignore_audit)
    held_keys: list[str] = []
    overlap, eval_key = 0, None
    held_source = pairs
    if own.eval_data:
        train: Any = data.groups
        held_source = kind(own.eval_data, reading)
        held = encode_source(held_source, args.encoder(setup.tokenizer), processes=args.dataset_num_proc)
        held_out: Any = held.groups
        eval_key = held.key
        seen = np.isin(held_out.prompt_keys(), data.groups.prompt_keys())
        if seen.all():
            raise ConfigError(f"--eval-data {own.eval_data}: all of its prompts are trained on; nothing would be held out. Give others")
        overlap, held_out = int(seen.sum()), held_out.select(np.flatnonzero(~seen))
    else:
        keys = data.groups.prompt_keys()
        kept = hold_out(keys, own.eval_fraction, args.seed, labels=data.groups.labels == WANTED if labelled else None)
        train, held_out = data.groups.select(np.flatnonzero(~kept)), data.groups.select(np.flatnonzero(kept))
        held_keys = sorted({f"{key:016x}" for key in keys[kept].tolist()})
    summary = data.data | {"encoding": data.encoding, "audit": audited, "held_out_prompts": held_keys, "key": data.key}
    return PairData(pairs, data, train, held_out, summary, held_source, overlap, eval_key)
