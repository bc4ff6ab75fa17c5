"""Pairs encoded in several processes: what one process makes, in its order, with its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from conftest import lab_pairs
from prefine.errors import DataError
from prefine.lab.model import build_tokenizer
from prefine.packing import spread
from prefine.packing.encoding import Encoder
from prefine.packing.spread import encode_spread
from prefine.preferences.records import Pair


def pairs() -> list[Pair]:
    """Of which some are too long, some equal, some alike to the tokenizer."""
    rows = lab_pairs(60)
    out = []
    for number, row in enumerate(rows, 1):
        rejected = row["chosen"] if number % 7 == 0 else row["rejected"]
        prompt = row["prompt"] if number % 11 else [{"role": "user", "content": row["prompt"][0]["content"] * 9}]
        out.append(Pair(tuple(prompt), row["chosen"], rejected, number))
    return out


def test_two_processes_make_what_one_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "INLINE_ROWS", 10)
    monkeypatch.setattr(spread, "CHUNK", 4)
    settings: dict[str, Any] = {"max_length": 60, "truncation_mode": "drop"}
    one, two = Encoder(build_tokenizer(), **settings), Encoder(build_tokenizer(), **settings)
    alone, spread_out = list(one.encode_pairs(pairs())), list(encode_spread(pairs(), two, 2))
    assert len(alone) == len(spread_out) < 55
    for a, b in zip(alone, spread_out, strict=True):
        assert a.index == b.index
        assert [ids.tolist() for ids in (a.prompt_ids, *a.completion_ids)] == [ids.tolist() for ids in (b.prompt_ids, *b.completion_ids)]
    assert two.report.summary() == one.report.summary()
    assert len(one.report.dropped) >= 2
    assert list(two.report.dropped) == list(one.report.dropped)


@pytest.mark.parametrize("kind", ["dpo", "reward", "sft", "sft of messages, packed", "sft, formatted"])
@pytest.mark.long
def test_trainers_encode_in_two_processes_what_they_encode_in_one(kind: str, lab_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    import prefine
    from prefine.training.prepared import DataWarning

    monkeypatch.setattr(spread, "INLINE_ROWS", 10)
    monkeypatch.setattr(spread, "CHUNK", 4)
    rows: list[Any] = [{"prompt": list(p.prompt), "chosen": p.chosen, "rejected": p.rejected, "margin": p.row / 7} for p in pairs()]
    more: dict[str, Any] = {}
    given: dict[str, Any] = {}
    if kind.startswith("sft"):
        rows = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in rows]
    if "messages" in kind:
        rows = [{"messages": [*r["prompt"], {"role": "assistant", "content": r["completion"]}]} for r in rows]
        more = {"packing": True, "assistant_only_loss": True}
    if "formatted" in kind:
        given = {"formatting_func": lambda row: row["prompt"][0]["content"] + row["completion"]}
    config, trainer, model_kind = {
        "dpo": (prefine.DPOConfig, prefine.DPOTrainer, AutoModelForCausalLM),
        "rew": (prefine.RewardConfig, prefine.RewardTrainer, AutoModelForSequenceClassification),
        "sft": (prefine.SFTConfig, prefine.SFTTrainer, AutoModelForCausalLM),
    }[kind[:3]]
    found: list[Any] = []
    for processes in (1, 2):
        args = config(str(tmp_path), max_length=60, use_cpu=True, dataset_num_proc=processes, **more)
        model = model_kind.from_pretrained(lab_model, **({"num_labels": 1} if kind == "reward" else {}))
        with pytest.warns(DataWarning):
            made = trainer(model=model, args=args, train_dataset=rows, processing_class=build_tokenizer(), **given)
        groups = [g for item in made.train_dataset for g in getattr(item, "groups", [item])]
        told = made.data_report["train_dataset"]
        ids = [[x.tolist() for x in (g.prompt_ids, *g.completion_ids)] for g in groups]
        found.append((ids, told, getattr(made, "margins", None)))
    assert found[0] == found[1]
    assert len(found[0][0]) >= 40


def test_nothing_left_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "INLINE_ROWS", 10)
    told = []
    for processes in (1, 2):
        with pytest.raises(DataError) as raised:
            list(encode_spread(pairs(), Encoder(build_tokenizer(), 3, truncation_mode="drop"), processes))
        told.append(str(raised.value))
    assert told[0] == told[1]


def test_a_tokenizer_that_does_not_travel_encodes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "INLINE_ROWS", 10)
    whole = len(list(Encoder(build_tokenizer()).encode_pairs(pairs())))
    encoder = Encoder(build_tokenizer())
    encoder.tokenizer.own = lambda: None  # cannot be pickled
    assert len(list(encode_spread(pairs(), encoder, 2))) == whole
    encoder = Encoder(build_tokenizer())
    of_a_script = type("Own", (type(encoder.tokenizer),), {"__module__": "__main__"})
    encoder.tokenizer.__class__ = of_a_script  # of a script that workers do not run
    assert len(list(encode_spread(pairs(), encoder, 2))) == whole


def test_a_worker_that_dies_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "INLINE_ROWS", 10)
    monkeypatch.setattr(spread, "_start", os._exit)  # travels by its name; a worker does not begin
    with pytest.raises(DataError, match="--dataset-num-proc 1"):
        list(encode_spread(pairs(), Encoder(build_tokenizer()), 2))


@pytest.mark.long
def test_a_script_without_a_guard_is_not_run_again(lab_model: Path, tmp_path: Path) -> None:
    """What starts workers by "spawn" would run the script anew in each, and fail: encoding does not, nor does the audit."""
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in lab_pairs(60)))
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        print("script begins")
        from prefine.packing import spread
        from prefine.audit import workers
        spread.INLINE_ROWS, workers.INLINE_BLOCKS = 10, 1
        from transformers import AutoTokenizer
        from prefine.packing.encoding import Encoder
        from prefine.preferences.convert import PairSource
        encoder = Encoder(AutoTokenizer.from_pretrained({str(lab_model)!r}))
        print(len(list(spread.encode_spread(PairSource({str(data)!r}), encoder, 2))), "groups")
        import prefine
        print(len(prefine.load_preferences({str(data)!r}).audit(processes=2).findings) > 3)
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["script begins", "60 groups", "True"]
