"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from prefine.cli import main


def test_help_needs_no_torch() -> None:
    code = "import sys; from prefine.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_a_reader_that_has_enough() -> None:
    """As in ``prefine lab | head``: no traceback."""
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run([sys.executable, "-m", "prefine.cli", "lab"], check=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (found.returncode, found.stderr) == (0, b"")


def test_data_show(pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(pairs_file), "--rows", "1"]) == 0
    assert "64 usable pairs; dropped: none" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_dpo_to_a_verdict_and_eval_again(lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    settings = tmp_path / "c.yaml"
    settings.write_text(yaml.safe_dump({"learning_rate": "1e-3", "eval-fraction": 0.25, "per_device_train_batch_size": 8}))
    command = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(run), "--config", str(settings)]
    assert main([*command, "--max-steps", "8", "--logging-steps", "2", "--save-steps", "4"]) == 0
    out = capsys.readouterr().out
    assert "proven exact" in out
    assert any(word in out for word in ("UNCHANGED", "LEARNED", "INCONCLUSIVE", "DEGENERATED", "COLLAPSED"))
    assert "reward accuracy" in out
    assert "BETTER" not in out  # no judge compared responses
    assert "no judge compared the responses" in out
    for name in ("config.yaml", "environment.json", "data.json", "metrics.jsonl", "model/model.safetensors", "eval/final/summary.json"):
        assert (run / name).exists(), name
    first = json.loads((run / "eval/final/summary.json").read_text())["learning"]["accuracy"]
    assert main(["eval", str(run), "--samples", "1", "--max-new-tokens", "5"]) == 0
    again = json.loads((run / "eval/held-out/summary.json").read_text())["learning"]["accuracy"]
    assert again == pytest.approx(first, abs=0.08)
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--max-steps", "8", "--logging-steps", "2", "--save-steps", "4", "--resume"]) == 0


def test_mistakes_are_one_line_and_leave_nothing(
    lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((lab_model / "config.json").read_text())
    bad_yaml = tmp_path / "bad.yaml"
    bad_yaml.write_text("learning_rat: 1\n")
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text('{"question": "q", "chosen": "a", "rejected": "b"}\n')
    out = str(tmp_path / "out")
    good = {"--model": str(lab_model), "--data": str(pairs_file), "--output-dir": out, "--max-steps": "1"}
    for change, message in (
        ({"--data": "nowhere.jsonl"}, "no such file"),
        ({"--data": str(renamed)}, "--map prompt=question"),
        ({"--model": "./nowhere"}, "no such model folder"),
        ({"--model": str(bare)}, "tokenizer"),
        ({"--config": str(bad_yaml)}, "learning_rate"),
        ({"--learning-rat": "1"}, "learning_rate"),
        ({"--loss-type": "sigmod"}, "sigmoid"),
        ({"--loss-type": "ipo", "--label-smoothing": "0.1"}, "would ignore"),
        ({"--max-steps": "many"}, "not a whole number"),
        ({"--load-in-4bit": "true"}, "--lora-r"),
        ({"--lora-alpha": "8"}, "would be ignored"),
        ({"--model-init-kwargs": '{"torch_dtype": "bfloat16"}'}, "give --dtype"),
        ({"--model-init-kwargs": '{"dtype": "bfloat17"}'}, "no dtype 'bfloat17'"),
        ({"--model-init-kwargs": '{"atn_implementation": "eager"}'}, "atn_implementation"),
    ):
        words = [w for pair in (good | change).items() for w in pair]
        for command in ("dpo", "reward") if "--model-init-kwargs" in change else ("dpo",):
            assert main([command, *words]) == 2, change
            error = capsys.readouterr().err.strip().splitlines()[-1]
            assert error.startswith("prefine: error:"), error
            assert message in error, (change, error)
            assert not Path(out).exists(), change
    assert main(["dop"]) == 2
    assert "did you mean 'dpo'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_sft(lab_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "facts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"what is {i} plus 1", "completion": str(i + 1)}) + "\n" for i in range(8)))
    run = tmp_path / "sft"
    words = [
        "--model",
        lab_model,
        "--data",
        data,
        "--output-dir",
        run,
        "--max-steps",
        "60",
        "--learning-rate",
        "1e-2",
        "--logging-steps",
        "1",
    ]
    assert main(["sft", *map(str, words)]) == 0
    series = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert series[-1] < series[0] / 2


@pytest.mark.filterwarnings("ignore")
def test_demo_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    assert main(["demo", "--quick", "--output-dir", str(tmp_path / "demo")]) == 0
    assert "oracle score" in capsys.readouterr().out
    assert (tmp_path / "demo-0" / "eval" / "lab" / "summary.json").exists()
    assert time.monotonic() > start


def test_a_tutorial_with_only_the_import_changed(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    script = f"""
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from prefine import DPOConfig, DPOTrainer

if __name__ == "__main__":
    model = AutoModelForCausalLM.from_pretrained({str(lab_model)!r}, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained({str(lab_model)!r})
    dataset = load_dataset("json", data_files={str(pairs_file)!r}, split="train")
    peft_config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    training_args = DPOConfig(output_dir={str(tmp_path / "out")!r}, beta=0.1, learning_rate=5e-6, num_train_epochs=1,
        per_device_train_batch_size=4, gradient_accumulation_steps=4, max_length=512, max_prompt_length=256, bf16=True,
        gradient_checkpointing=True, logging_steps=2, save_strategy="epoch", remove_unused_columns=False)
    trainer = DPOTrainer(model, ref_model=None, args=training_args, train_dataset=dataset, processing_class=tokenizer,
        peft_config=peft_config)
    trainer.train()
    trainer.save_model({str(tmp_path / "final")!r})
"""
    (tmp_path / "tutorial.py").write_text(script)
    done = subprocess.run([sys.executable, str(tmp_path / "tutorial.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "final" / "adapter_model.safetensors").exists()


@pytest.mark.filterwarnings("ignore")
def test_resume_refuses_other_settings(lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(tmp_path / "r")]
    assert main([*command, "--max-steps", "2", "--save-steps", "1"]) == 0
    written = (tmp_path / "r" / "config.yaml").read_text()
    assert main([*command, "--max-steps", "3", "--resume"]) == 0  # further is fine
    assert main([*command, "--max-steps", "3", "--resume", "--beta", "0.3"]) == 2
    assert "beta was 0.1 and is now 0.3" in capsys.readouterr().err
    assert (tmp_path / "r" / "config.yaml").read_text() == written


@pytest.mark.filterwarnings("ignore")
def test_dpo_stops_on_data_that_means_nothing(lab_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turned = tmp_path / "turned.jsonl"
    rows = [{"prompt": f"what is {i} plus 1", "chosen": str(i), "rejected": str(i + 1)} for i in range(12)]
    rows += [r | {"chosen": r["rejected"], "rejected": r["chosen"]} for r in rows]
    turned.write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = ["dpo", "--model", str(lab_model), "--data", str(turned), "--output-dir", str(tmp_path / "run"), "--max-steps", "1"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "conflicting-labels: 24 of 24" in error
    assert "--ignore-audit" in error
    assert not (tmp_path / "run").exists()
    assert main([*command, "--ignore-audit"]) == 0
    out = capsys.readouterr().out
    assert "audit, must be fixed: conflicting-labels" in out
    assert json.loads((tmp_path / "run" / "data.json").read_text())["audit"]["grade"] == "fix"
