"""The messages that practice knows: each a sentence of the user's terms, none a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prefine.lab.model import build_model, build_tokenizer


def changed(model: Path, place: Path, name: str, **values: object) -> Path:
    """A copy of a model's folder with values of one of its JSON files others; None: without them."""
    shutil.copytree(model, place)
    path = place / name
    kept = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in kept.items() if v is not None}))
    return place


def no_pad(model: Path, place: Path) -> Path:
    return changed(model, place, "tokenizer_config.json", pad_token=None)


def no_template(model: Path, place: Path) -> Path:
    shutil.copytree(model, place)
    for name in ("chat_template.jinja", "chat_template.json"):
        (place / name).unlink(missing_ok=True)
    return place


def small_embedding(model: Path, place: Path) -> Path:
    found = build_model(0, hidden=32, layers=1)
    found.resize_token_embeddings(20)
    found.save_pretrained(place)
    build_tokenizer().save_pretrained(place)
    return place


def other_adapter(model: Path, place: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    wide = build_model(0, hidden=64, layers=2)
    wide.save_pretrained(place.with_name("wide"))
    build_tokenizer().save_pretrained(place.with_name("wide"))
    get_peft_model(wide, LoraConfig(target_modules=["q_proj"])).save_pretrained(place)
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(model)}))
    build_tokenizer().save_pretrained(place)
    return place


def lost_base(model: Path, place: Path) -> Path:
    other_adapter(model, place)
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(place / "gone")}))
    return place


def encoder_only(model: Path, place: Path) -> Path:
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=300, **sizes)).save_pretrained(place)
    build_tokenizer().save_pretrained(place)
    return place


def vision(model: Path, place: Path) -> Path:
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)).save_pretrained(place)
    build_tokenizer().save_pretrained(place)
    return place


def spoilt(name: str, content: bytes | None) -> Callable[[Path, Path], Path]:
    def make(model: Path, place: Path) -> Path:
        shutil.copytree(model, place)
        (place / name).unlink() if content is None else (place / name).write_bytes(content)
        return place

    return make


def cut_weights(model: Path, place: Path) -> Path:
    shutil.copytree(model, place)
    path = place / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return place


def mixed_dtypes(model: Path, place: Path) -> Path:
    """Half of the weights in bfloat16, as a hurried conversion leaves them."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, place)
    weights = load_file(place / "model.safetensors")
    save_file({k: v.to(torch.bfloat16) if i % 2 else v for i, (k, v) in enumerate(sorted(weights.items()))}, place / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    return place


Made = Callable[[Path, Path], Path]
MODELS: dict[str, tuple[Made, list[str], str | None]] = {
    # what is wrong: how it is made, further words, what the sentence says (None: it trains)
    "no pad token": (no_pad, [], None),
    "no chat template": (no_template, [], None),
    "vocabulary larger than the embedding": (small_embedding, [], "embedding"),
    "adapter of another base": (other_adapter, [], "adapter"),
    "base that is gone": (lost_base, [], "gone"),
    "encoder-only": (encoder_only, [], "is an encoder"),
    "vision": (vision, [], "model"),
    "weights cut short": (cut_weights, [], "could not be loaded"),
    "weights no safetensors": (spoilt("model.safetensors", b"\xff" * 5000), [], "could not be loaded"),
    "weights empty": (spoilt("model.safetensors", b""), [], "could not be loaded"),
    "weights missing": (spoilt("model.safetensors", None), [], "model"),
    "config.json missing": (spoilt("config.json", None), [], "config.json"),
    "config.json broken": (spoilt("config.json", b"{"), [], "config.json"),
    "config.json a list": (spoilt("config.json", b"[]"), [], "model"),
    "tokenizer.json broken": (spoilt("tokenizer.json", b"{"), [], "tokenizer"),
    "tokenizer.json empty": (spoilt("tokenizer.json", b"{}"), [], "tokenizer"),
    "tokenizer_config.json broken": (spoilt("tokenizer_config.json", b"[1"), [], "tokenizer"),
    "dtypes mixed": (mixed_dtypes, [], None),
    "dtypes mixed, LoRA in bf16": (mixed_dtypes, ["--lora-r", "4", "--bf16"], None),
    "fp16 on a CPU": (lambda model, place: model, ["--fp16"], None),
    "bf16 in full evaluation": (lambda model, place: model, ["--bf16"], None),
    "4-bit on a CPU": (lambda model, place: model, ["--load-in-4bit", "--lora-r", "4"], "bit"),
    "unreachable Hub": (lambda model, place: Path("nobody/no-such-model"), [], "nobody/no-such-model"),
    "a path that is not": (lambda model, place: place / "nowhere", [], "nowhere"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.long
def test_models_that_do_not_fit(name: str, lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    make, more, told = MODELS[name]
    model = make(lab_model, tmp_path / "model")
    words = ["dpo", "--model", str(model), "--data", str(pairs_file), "--output-dir", str(tmp_path / "run"), "--max-steps", "1"]
    _check([*words, "--final-eval", "off", *more], told, tmp_path)


DATA: dict[str, tuple[str, str]] = {
    "a column is missing": ('{"prompt": "a", "chosen": "b"}\n', "rejected"),
    "no column is known": ('{"x": 1}\n', "x"),
    "rows are lists": ("[1, 2]\n", "pairs.jsonl"),
    "empty": ("", "pairs.jsonl"),
    "values are numbers": ('{"prompt": 1, "chosen": 2, "rejected": 3}\n', ""),
    "not JSON": ("prompt,chosen\n", "line 1"),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.long
def test_data_that_does_not_fit(name: str, lab_model: Path, tmp_path: Path) -> None:
    content, told = DATA[name]
    (tmp_path / "pairs.jsonl").write_text(content)
    _check(
        ["dpo", "--model", str(lab_model), "--data", str(tmp_path / "pairs.jsonl"), "--output-dir", str(tmp_path / "run")], told, tmp_path
    )


def _check(words: list[str], told: str | None, folder: Path) -> None:
    """In a fresh process, as a person runs it."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "prefine.cli", *words], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr[-1500:]
    if told is None:
        assert done.returncode == 0, done.stderr
        return
    [line] = [line for line in done.stderr.splitlines() if line.startswith("prefine: error: ")]
    assert done.returncode == 2
    assert told in line
    assert len(line) < 700
