"""The audit: planted faults are found, clean data is not blamed, parts merge whatever the split."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit_shapes import CLEAN as CLEAN_SHAPES
from audit_shapes import SHAPES
from planted_faults import MAX_LENGTH, ONE_ROW, TEMPLATE, Clean, plant, tokenizer
from prefine.api.auditing import prompts_of
from prefine.audit.audit import Audit, Limits, audit
from prefine.audit.check import CHECKS, POLICY_CHECKS, ROW_CHECKS, TOKEN_CHECKS, Check, Finding
from prefine.audit.loops import loops
from prefine.audit.personal import has_personal_data
from prefine.audit.refusals import refuses
from prefine.audit.row_checks import flags
from prefine.audit.secrets import kinds_of_secret
from prefine.audit.shortcuts import Accuracy
from prefine.audit.tokens import cuts
from prefine.audit.workers import Tokenization
from prefine.cli import main
from prefine.errors import ConfigError, DataError
from prefine.packing.encoding import Encoder
from prefine.preferences.convert import PairSource, Reading, check_record
from prefine.preferences.formats import Skip
from prefine.preferences.records import Pair

CLEAN = Clean()
TOKENIZER = tokenizer(CLEAN)


def run(path: Path, rows: list[Any], **options: Any) -> dict[str, Finding]:
    return {f.name: f for f in whole(path, rows, **options).findings}


def whole(path: Path, rows: list[Any], **options: Any) -> Audit:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokens = Tokenization.of(options.pop("tokenizer", TOKENIZER), 32)
    return audit([str(path)], Reading(), tokens, Limits(MAX_LENGTH), processes=options.pop("processes", 1), **options)


def test_clean_data_is_not_blamed(tmp_path: Path) -> None:
    found = whole(tmp_path / "x.jsonl", [CLEAN.row() for _ in range(3000)])
    assert found.grade == "fine", [f for f in found.findings if f.grade != "fine"]
    assert found.records == 3000
    assert all(f.count == 0 for f in found.findings if "shortcut" not in f.name and f.name != "word-probe")


@pytest.mark.parametrize("fault", list(ONE_ROW))
def test_a_planted_fault_is_found_and_no_other(fault: str, tmp_path: Path) -> None:
    planted = plant(fault, 1500, CLEAN)
    found = run(tmp_path / "x.jsonl", planted.rows)
    rows = set(found[fault].rows)
    assert rows == planted.at_fault, (sorted(rows ^ planted.at_fault)[:10], found[fault].detail)
    assert found[fault].grade != "fine" or fault in ("dropped", "chosen-refuses"), found[fault]  # these are normal up to a share
    related = {"cut-difference": {"too-long"}, "boundary-merge": set(), "doubled-begin": set()}.get(fault, set())
    others = {name for name, f in found.items() if f.grade != "fine" and name not in {fault, *related}}
    assert not others, [found[name] for name in others]


def test_template_faults(tmp_path: Path) -> None:
    rows = []
    for i in range(400):
        row = CLEAN.row()
        answers = {side: [{"role": "assistant", "content": row[side].strip()}] for side in ("chosen", "rejected")}
        if i % 100 == 50:
            answers["rejected"] = [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"a": "nothing"}}]}]
        if i % 100 == 60:
            answers["rejected"] = [
                *answers["chosen"],
                {"role": "user", "content": "no"},
                {"role": "refused", "content": "x"},
                *answers["rejected"],
            ]
        rows.append({"prompt": [{"role": "user", "content": row["prompt"]}], **answers})
    templated = tokenizer(Clean())
    templated.chat_template = TEMPLATE
    found = run(tmp_path / "x.jsonl", rows, tokenizer=templated)
    assert found["template-leaves-out"].rows == (51, 151, 251, 351)
    assert found["template-refuses"].rows == (61, 161, 261, 361)
    assert found["template-refuses"].grade == "fix"
    assert found["missing-end"].count == 0
    templated.chat_template = TEMPLATE.replace("<|end|>", "")
    assert run(tmp_path / "x.jsonl", rows, tokenizer=templated)["missing-end"].grade == "look"
    templated.chat_template = "<s>" + TEMPLATE
    assert run(tmp_path / "x.jsonl", rows, tokenizer=templated)["doubled-begin"].count == 392


def _longer(row: dict[str, Any], wins: bool) -> dict[str, Any]:
    chosen, rejected = sorted((row["chosen"], row["rejected"]), key=len, reverse=wins)
    return row | {"chosen": chosen, "rejected": rejected}


def test_shortcuts_are_found(tmp_path: Path) -> None:
    rows = [_longer(CLEAN.row(), i % 10 < 8) for i in range(1000)]
    found = run(tmp_path / "length.jsonl", rows)
    assert found["length-shortcut"].grade == "look"
    assert "chosen is longer in" in found["length-shortcut"].detail
    sure = [r | {"chosen": " Sure." + r["chosen"]} if i % 4 < 2 else r for i, r in enumerate(CLEAN.row() for _ in range(3000))]
    found = run(tmp_path / "word.jsonl", sure)
    assert found["first-word-shortcut"].grade == "look"
    assert "'sure' wins 100 %" in found["first-word-shortcut"].detail
    assert "sure" in found["word-probe"].detail
    marked = [r | {"chosen": r["chosen"] + "\n- one\n- two"} if i % 3 == 0 else r for i, r in enumerate(CLEAN.row() for _ in range(900))]
    found = run(tmp_path / "mark.jsonl", marked)
    assert found["mark-shortcut"].grade == "look"
    assert "the response with list wins 100.0 %" in found["mark-shortcut"].detail


def test_overlap_with_evaluation_prompts(tmp_path: Path) -> None:
    rows = [CLEAN.row() for _ in range(300)]
    rows[9]["prompt"] = CLEAN.text(40, 41)
    near = rows[9]["prompt"].rsplit(" ", 1)[0] + " lulu"
    found = run(tmp_path / "x.jsonl", rows, against=[("bench", [rows[4]["prompt"], near, "something else entirely"])])
    assert found["eval-overlap"].rows == (5, 10)
    assert found["eval-overlap"].grade == "fix"
    assert "2 share a prompt with bench, 1 of them word for word" in found["eval-overlap"].detail


def test_the_result_does_not_depend_on_blocks_or_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [r for fault in ("secrets", "conflicting-labels", "near-duplicate-prompts") for r in plant(fault, 300, CLEAN).rows]
    one = whole(tmp_path / "x.jsonl", rows).summary()
    monkeypatch.setattr("prefine.preferences.blocks.BLOCK_BYTES", 20_000)
    assert whole(tmp_path / "x.jsonl", rows).summary() == one
    assert whole(tmp_path / "x.jsonl", rows, processes=2).summary() == one


def test_tokens_are_counted_as_the_encoder_does(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [CLEAN.row() for _ in range(60)] + [CLEAN.row() | {"chosen": " " + CLEAN.text(300, 500)} for _ in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for mode, limit, prompt_limit in (("keep_start", 100, None), ("keep_end", 100, None), ("drop", 100, 40), ("keep_start", 90, 30)):
        encoder = Encoder(TOKENIZER, limit, prompt_limit, mode)
        list(encoder.encode_pairs(PairSource(str(path))))
        report = encoder.report
        found = audit([str(path)], Reading(), Tokenization.of(TOKENIZER, 16), Limits(limit, prompt_limit, mode))
        dropped = sum(len(r) for reason, r in report.dropped.items() if "equal" not in reason)
        expected = f"{dropped} rows dropped, {report.cut['prompts']} prompts and {report.cut['responses']} responses truncated"
        assert expected in next(f.detail for f in found.findings if f.name == "too-long"), mode


def test_cuts_by_hand() -> None:
    def of(values: list[int]) -> Any:
        return np.array(values, np.int32)

    # prompt, chosen, rejected, tokens in common; at most 10 tokens
    cut = cuts(of([4, 4, 9, 12]), of([6, 7, 3, 1]), of([2, 8, 3, 1]), of([0, 6, 1, 0]), 10, None, "keep_start")
    assert (cut.dropped, cut.prompts_cut, cut.answers_cut, cut.touched.tolist()) == (
        1,
        0,
        4,
        [False, True, True, True],
    )  # the prompt of 12; two answers each of rows 2 and 3
    assert cut.lost_difference.tolist() == [False, True, True, False]
    cut = cuts(of([4, 4, 9, 12]), of([6, 7, 3, 1]), of([2, 8, 3, 1]), of([0, 6, 1, 0]), 10, None, "drop")
    assert (cut.dropped, cut.prompts_cut, cut.answers_cut) == (3, 0, 0)
    cut = cuts(of([9, 12]), of([3, 1]), of([3, 2]), of([0, 0]), 10, None, "keep_end")
    assert (cut.dropped, cut.prompts_cut, cut.answers_cut) == (0, 2, 0)


def test_wilson_by_scipy() -> None:
    from scipy.stats import binomtest

    for right, of in ((0, 10), (7, 10), (71, 100), (500, 1000)):
        expected = binomtest(right, of).proportion_ci(0.95, "wilson")
        assert Accuracy(right, of).interval() == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_content_patterns() -> None:
    assert kinds_of_secret("key AKIA" + "IOSFODNN7EXAMPLE") == ["AWS key"]
    assert kinds_of_secret("ghosts and sk-etches") == []
    for text in ("mail me: jo@mena.net", "call (555) 123-4567 now", "+49 555 123 4567", "ssn 123-45-6789", "card 4111 1111 1111 1111"):
        assert has_personal_data(text), text
    for text in (
        "ask help@example.com",
        "in 2020-2021, 1234567 people",
        "3.14159265358979",
        "card 4111 1111 1111 1112",
        "10.0.0.1",
        "555-1234",
    ):
        assert not has_personal_data(text), text
    assert loops("well " + "I see. " * 6)
    assert loops("\n".join(["this is a whole line"] * 5))
    assert not loops("no no no, that is not a loop at all but a sentence with a few repeats of no")
    assert not loops("| a | b |\n| - | - |\n| 1 | 2 |\n| 3 | 4 |")
    assert refuses("I'm sorry, but I can't do that")
    assert refuses("As an AI language model, I cannot have feelings")
    assert not refuses("I'm sorry to hear that; here is what you can do")
    assert not refuses("I can help")


@pytest.mark.parametrize("check", list(CHECKS.values()), ids=list(CHECKS))
def test_every_check_finds_its_example(check: Check, tmp_path: Path) -> None:
    assert all((check.sees, check.why, check.example, check.fix))
    if isinstance(check.case, str):  # needs a model or a template, of which other tests make some
        assert check in (*TOKEN_CHECKS, *POLICY_CHECKS)
        return
    rows = check.case.written()
    clean = [CLEAN.row() for _ in range(5)] if "chosen" in rows[0] else []
    against = [("bench", [rows[0]["prompt"]])] if check.name == "eval-overlap" else []
    found = run(tmp_path / "x.jsonl", [*rows, *clean], against=against)[check.name]
    assert found.grade != "fine" or check.name == "chosen-refuses", found  # is normal up to a share
    assert found.count >= 1 or check.name == "one-sided-labels"  # whose count is of the kind that is not there
    assert not any(row > len(rows) for row in found.rows), found


LEAST_RECALL = {
    **{"secrets": 0.98, "templated": 0.93, "broken-text": 0.87, "chosen-refuses": 0.95, "looping-answer": 0.95, "personal-data": 0.92},
    **{"prompt-repeated": 0.98, "control-characters": 0.98, "equal-normalised": 0.6},
}
"""Of shapes that somebody wrote without a look at the checks; by shape in docs/audit-recall.md."""


def flags_of(row: dict[str, str]) -> list[str]:
    try:
        pair = Pair(row["prompt"], row["chosen"], row["rejected"])
        check_record(pair)
    except Skip:
        return ["equal-normalised"]
    return flags(pair)


@pytest.mark.parametrize("fault", list(LEAST_RECALL))
def test_shapes_of_a_fault_are_found(fault: str) -> None:
    rows = [row for shape in SHAPES[fault].values() for row in shape]
    found = sum(fault in flags_of(row) for row in rows)
    assert found >= LEAST_RECALL[fault] * len(rows), f"{found} of {len(rows)}"


def test_what_looks_like_a_fault_is_none() -> None:
    assert [(row["why"], name) for row in CLEAN_SHAPES for name in flags_of(row)] == []


def test_prompts_with_some_words_changed_are_near(tmp_path: Path) -> None:
    for shape, rows in SHAPES["near-duplicate-prompts"].items():
        found = run(tmp_path / "x.jsonl", rows)["near-duplicate-prompts"]
        assert len(found.rows) >= (len(rows) // 2) * (shape != "10-words-three-words"), (shape, found.detail)
    capitals = [{"prompt": f"What is the capital of {land}?", "chosen": f"a {land}", "rejected": "b"} for land in ("France", "Spain")]
    assert run(tmp_path / "x.jsonl", capitals)["near-duplicate-prompts"].count == 0


REAL = Path("/work/shared/data")
REAL_FINDS = {
    "hh_rlhf_harmless.jsonl.gz": {
        "templated": {30, 147, 208, 481, 564, 804, 892, 967, 997, 1370, 1457, 1503, 1995},  # "Assistant: Human: ..."
        "prompt-repeated": {509, 778, 1118, 1968},
        "control-characters": {420},  # a sign of a private font
        "equal-normalised": {75, 436, 1069},
        "personal-data": {58, 353, 461, 477, 508, 563, 576, 630, 654, 1000, 1108, 1143, 1163, 1249, 1260, 1265, 1477, 1799, 1812, 1872},
    },
    "kto_en_300.json.gz": {"templated": {140, 258}, "broken-text": {246, 260}, "control-characters": {260}},
    "oasst_en_100_trees.jsonl.gz": {"templated": {69}},  # the prompt is a transcript of somebody's chat
    "sharegpt_dpo_en_300.json.gz": {"broken-text": {16}, "control-characters": {16, 68, 287}},
}
"""Read one by one: each is what its check says."""


@pytest.mark.skipif(not REAL.exists(), reason="needs the real data sets")
@pytest.mark.parametrize("name", list(REAL_FINDS))
def test_what_is_found_in_real_files_is_known(name: str) -> None:
    found = {f.name: f for f in audit([str(REAL / name)], Reading(), near=False, processes=1).findings}
    rows = {check.name: set(found[check.name].rows) for check in ROW_CHECKS if check.name != "chosen-refuses"}
    assert {name: numbers for name, numbers in rows.items() if numbers} == REAL_FINDS[name]
    assert all(found[name].grade == "fine" for name in ("chosen-refuses", "turned-part") if name in found)


def test_a_part_with_turned_labels_is_found(tmp_path: Path) -> None:
    rows = [_longer(CLEAN.row(), i % 10 < 7) for i in range(3000)]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} if i < 1000 else row for i, row in enumerate(rows)]
    assert run(tmp_path / "a.jsonl", rows)["turned-part"].grade == "fine"
    found = run(tmp_path / "b.jsonl", turned)["turned-part"]
    assert found.grade == "look"
    assert 600 <= found.count <= 1000, found.detail
    assert "loses in rows 1 to 300" in found.detail


def test_second_turns_of_a_benchmark_are_looked_for(tmp_path: Path) -> None:
    bench = write(tmp_path / "bench.jsonl", [{"question_id": 1, "turns": ["Name a river.", "Now name a longer one than that."]}])
    assert prompts_of(bench) == ["Name a river.", "Now name a longer one than that."]
    with pytest.raises(ConfigError, match="row 1"):
        prompts_of(write(tmp_path / "bad.jsonl", [{"turns": [1]}]))


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.filterwarnings("ignore")
def test_the_command(tmp_path: Path, lab_model: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write(tmp_path / "bad.jsonl", plant("secrets", 300, CLEAN).rows)
    out = tmp_path / "data.json"
    assert main(["data", "audit", bad, "--strict", "--output", str(out), "--processes", "1"]) == 1
    printed = capsys.readouterr().out
    assert "must be fixed: secrets" in printed
    assert "AKIA" not in printed  # found, never shown
    assert json.loads(out.read_text())["grade"] == "fix"
    assert "AKIA" not in out.read_text()
    assert main(["data", "audit", str(pairs_file), "--model", str(lab_model), "--policy", "--max-length", "64", "--processes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "off-policy" in printed
    assert "keeps 99 % whole" in printed
    assert main(["data", "audit", "--explain", "secrets"]) == 0
    assert "revoke them" in capsys.readouterr().out
    assert main(["data", "audit", "--explain", "secret"]) == 2
    assert main(["data", "audit", str(pairs_file), "--policy"]) == 2
    assert "--model" in capsys.readouterr().err


def test_split_dedup_filter_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [CLEAN.row() for _ in range(400)]
    rows += [dict(rows[0]), rows[1] | {"chosen": rows[1]["chosen"].upper()}, rows[2] | {"chosen": " other"}]
    source = write(tmp_path / "x.jsonl", rows)

    def read(path: Path) -> list[Any]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    parts = tmp_path / "parts"
    assert main(["data", "split", source, "--output-dir", str(parts), "--eval-fraction", "0.2", "--test-fraction", "0.1"]) == 0
    sides = {name: {r["prompt"] for r in read(parts / f"{name}.jsonl")} for name in ("train", "eval", "test")}
    assert not sides["train"] & sides["eval"]
    assert not sides["train"] & sides["test"]
    assert 50 < len(sides["eval"]) < 110
    grown = write(tmp_path / "grown.jsonl", [*[CLEAN.row() for _ in range(50)], *rows])
    assert main(["data", "split", grown, "--output-dir", str(tmp_path / "more"), "--eval-fraction", "0.2", "--test-fraction", "0.1"]) == 0
    assert sides["eval"] <= {r["prompt"] for r in read(tmp_path / "more" / "eval.jsonl")}  # added rows move none

    kept, left = tmp_path / "kept.jsonl", tmp_path / "left.jsonl"
    assert main(["data", "dedup", source, str(kept), "--rejected", str(left)]) == 0
    assert len(read(kept)) == 401
    assert [(r["row"], r["reason"]) for r in read(left)] == [(401, "same as an earlier row"), (402, "same as an earlier row")]
    assert "403 rows in, 401 rows out" in capsys.readouterr().out
    assert main(["data", "dedup", source, str(kept), "--prompts"]) == 0
    assert len(read(kept)) == 400
    twins = plant("near-duplicate-prompts", 300, CLEAN)
    assert main(["data", "dedup", write(tmp_path / "t.jsonl", twins.rows), str(kept), "--near", "0.7", "--rejected", str(left)]) == 0
    assert {r["row"] for r in read(left)} == twins.at_fault

    secret = plant("secrets", 200, CLEAN)
    assert main(["data", "filter", write(tmp_path / "s.jsonl", secret.rows), str(kept), "--drop", "secrets", "--rejected", str(left)]) == 0
    assert {r["row"] for r in read(left)} == secret.at_fault
    assert main(["data", "filter", source, str(kept), "--drop", "secret"]) == 2
    assert main(["data", "filter", source, str(kept), "--min-words", "30"]) == 0
    assert all(min(len(r["chosen"].split()), len(r["rejected"].split())) >= 30 for r in read(kept))

    assert main(["data", "sample", source, str(kept), "--fraction", "0.25"]) == 0
    first = {r["prompt"] for r in read(kept)}
    assert 60 < len(first) < 140
    assert main(["data", "sample", write(tmp_path / "r.jsonl", rows[::-1]), str(kept), "--fraction", "0.25"]) == 0
    assert {r["prompt"] for r in read(kept)} == first


def test_convert_writes_what_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "q", "answers": ["x", "y", "z"], "scores": [1, 3, 2]}, {"prompt": "r", "answers": ["x", "y"], "scores": [1, 1]}]
    source = write(tmp_path / "x.jsonl", rows)
    for kind in ("jsonl", "jsonl.gz", "parquet"):
        out = tmp_path / f"out.{kind}"
        assert main(["data", "convert", source, str(out), "--pairing", "all", "--rejected", str(tmp_path / "left.jsonl")]) == 0
        assert "2 rows in, 3 rows out" in capsys.readouterr().out
        pairs = list(PairSource(str(out)))
        assert [(p.chosen[0]["content"], p.rejected[0]["content"], p.scores) for p in pairs] == [  # type: ignore[index]
            ("y", "z", (3.0, 2.0)), ("y", "x", (3.0, 1.0)), ("z", "x", (2.0, 1.0)),
        ]  # fmt: skip
        assert json.loads((tmp_path / "left.jsonl").read_text())["reason"] == "no two responses differ by enough in score"
    assert main(["data", "convert", source, str(tmp_path / "out.txt")]) == 2
    assert main(["data", "convert", source, str(tmp_path / "k.jsonl"), "--to", "labelled"]) == 0
    again = PairSource(str(tmp_path / "k.jsonl"))
    assert len(list(again.items(again.sources[0]))) == 2
    assert main(["data", "convert", source, str(tmp_path / "s.jsonl"), "--to", "same"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []  # nothing half-written


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_bad_row_in_a_worker_is_an_error_and_no_hang(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = [CLEAN.row() for _ in range(9000)]
    rows[6000] = "not a row"
    path = tmp_path / f"x.{kind}"
    path.write_text(json.dumps(rows) if kind == "json" else "".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(DataError, match="6001"):
        audit([str(path)], Reading(), near=False, processes=2)


def test_odd_but_valid_answers_do_not_stop_the_audit(tmp_path: Path) -> None:
    rows = [CLEAN.row() | {"chosen": "\n" * 300 + "late"} for _ in range(3)]
    found = run(tmp_path / "a.jsonl", rows)
    assert found["first-word-shortcut"].of == 1
    ids = [{"prompt": f"p{i}", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(400)]
    assert "too few words" in run(tmp_path / "b.jsonl", ids)["word-probe"].detail
    import time

    start = time.monotonic()
    slow = [{"prompt": "p", "chosen": "a." * 100_000 + " x@", "rejected": "\n".join(f"line number {i} here" for i in range(20_000))}]
    run(tmp_path / "c.jsonl", slow)
    assert time.monotonic() - start < 60  # it took minutes, with patterns that look back without bound


def test_rows_are_counted_once_whatever_their_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": CLEAN.text(9, 12) + " AKIA" + "ABCDEFGHIJKLMNOP", "answers": ["x", "y", "z"], "scores": [3, 2, 1]} for _ in range(5)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = audit([str(path)], Reading(pairing="all"), processes=1)
    assert found.records == 15
    secrets = next(f for f in found.findings if f.name == "secrets")
    assert (secrets.count, secrets.of) == (5, 5)


def test_numbers_agree_between_the_audit_and_the_other_commands(tmp_path: Path) -> None:
    bad = CLEAN.row() | {"chosen": "same", "rejected": "same"}
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_text("\n\n" + json.dumps(CLEAN.row()) + "\n\n\n")
    b.write_text("\n" + json.dumps(bad) + "\n" + json.dumps(CLEAN.row()) + "\n")
    source = PairSource([str(a), str(b)])
    kept = [pair.row for pair in source]
    dropped = source.dropped["chosen equals rejected"]
    assert len({*kept, *dropped}) == 3
    found = next(f for f in audit([str(a), str(b)], Reading()).findings if f.name == "dropped")
    assert list(found.rows) == dropped


def test_additional_special_tokens_end_an_answer(tmp_path: Path) -> None:
    named = tokenizer(Clean())
    named.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    named.chat_template = TEMPLATE.replace("<|end|>", "<|im_end|>")
    row = CLEAN.row()
    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}], "chosen": row["chosen"], "rejected": row["rejected"]}]
    assert run(tmp_path / "x.jsonl", rows, tokenizer=named)["missing-end"].count == 0


def test_parquet_keeps_every_field_or_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"city": "x"}}}
    asked = [{"role": "user", "content": "q"}]
    rows = [
        {"prompt": asked, "chosen": "a", "rejected": "b"},
        {"prompt": asked, "chosen": "c", "rejected": "d", "score_chosen": 2, "score_rejected": 1, "tools": [tool]},
    ]
    out = tmp_path / "x.parquet"
    assert main(["data", "convert", write(tmp_path / "x.jsonl", rows), "--to", "pairs", str(out)]) == 0
    first, second = PairSource(str(out))
    assert (first.scores, first.tools) == (None, None)
    assert (second.scores, second.tools) == ((2.0, 1.0), (tool,))
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
    rows = [{"prompt": [{"role": "user", "content": "q"}], "chosen": [call], "rejected": "b"}]
    assert main(["data", "convert", write(tmp_path / "y.jsonl", rows), str(tmp_path / "y.parquet")]) == 2
    assert "write .jsonl" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if "y.parquet" in p.name] == []


def test_filter_and_dedup_agree_with_the_audit(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    lists = [{"prompt": f"p{i}", "answers": ["Yes.", "yes"], "scores": [2, 1]} for i in range(3)]
    lists.append({"prompt": "q", "answers": ["x", "y"], "scores": [2, 1]})
    assert main(["data", "filter", write(tmp_path / "x.jsonl", lists), str(out), "--drop", "equal-normalised"]) == 0
    assert [json.loads(line)["prompt"][0]["content"] for line in out.read_text().splitlines()] == ["q"]
    labelled = [{"prompt": "p", "completion": "x", "label": True}, {"prompt": "p", "completion": "x", "label": False}]
    assert main(["data", "dedup", write(tmp_path / "y.jsonl", labelled), str(out)]) == 0
    assert len(out.read_text().splitlines()) == 2  # a conflict is no duplicate


def test_terminal_codes_do_not_get_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "x.jsonl", [{"\x1b]0;pwn\x07x": "q", "chosen": "a", "rejected": "b"}])
    assert main(["data", "show", source]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_mistakes(tmp_path: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["audit", str(pairs_file), "--truncation-mode", "foo"], "truncation_mode"),
        (["audit", str(pairs_file), "--processes", "-1"], "--processes"),
        (["convert", str(pairs_file), str(pairs_file / "x.jsonl")], str(pairs_file)),
        (["show", "postgresql://u:hunter2@h/db"], "PGPASSWORD"),
        (["shwo", "x"], "did you mean 'show'"),
        (["convert", str(pairs_file), "out.jsonl", "--to", "pair"], "did you mean 'pairs'"),
        (["split", str(pairs_file)], "--output-dir"),
        (["dedup", str(pairs_file), "out.jsonl", "--near", "7"], "--near"),
    ):
        assert main(["data", *words]) == 2, words
        error = capsys.readouterr().err
        assert message in error, (words, error)
        assert "hunter2" not in error


def test_workers_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([CLEAN.row() for _ in range(4000)]))
    command = [sys.executable, "-m", "prefine.cli", "data", "audit", str(path), "--processes", "2", "--no-near"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert "4,000 usable" in done.stdout, done.stderr[-2000:]
    assert "grade: all fine" in done.stdout
