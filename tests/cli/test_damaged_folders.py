"""Folders in which something is damaged: a whole run, a model, a data set. Every command that reads them ends in a sentence or succeeds."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from damage import JUNK, mutated, replaced
from prefine import checkpoints
from prefine.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")
TRAINING = [
    *("dpo", "--model", "base", "--data", "pairs.jsonl", "--output-dir", "run", "--max-steps", "2", "--save-steps", "1", "--lora-r", "2"),
    *("--eval-fraction", "0.2", "--final-eval", "quick"),
]
JUDGE = ("--judge", "python", "--function", "score.py:score")
READING_A_RUN = {
    "report": ["report", "run"],
    "doctor": ["doctor", "run"],
    "compare": ["compare", "run", "other"],
    "merge": ["merge", "run", "--output", "merged"],
    "eval": ["eval", "run", "--max-new-tokens", "3", *JUDGE],
    "judge": ["judge", "run/eval/final/answers-base.jsonl", "run/eval/final/answers-tuned.jsonl", *JUDGE, "--output-dir", "judged"],
    "count": ["judge", "--verdicts", "run/eval/final/verdicts.jsonl"],
    "resume": [*TRAINING, "--resume"],
}
READING_A_MODEL = {
    "generate": ["generate", "--model", "{}", "--prompts", "prompts.jsonl", "--max-new-tokens", "3", "--output", "out.jsonl"],
    "merge": ["merge", "{}", "--output", "merged"],
    "eval": ["eval", "run", "--max-new-tokens", "3", *JUDGE],
    "data show": ["data", "show", "pairs.jsonl", "--tokens", "--model", "{}"],
    "plan": ["plan", "dpo", "--model", "{}", "--data", "pairs.jsonl"],
}


@pytest.fixture(scope="module")
def material(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(lab_model, folder / "base")
    shutil.copy(pairs_file, folder / "pairs.jsonl")
    (folder / "prompts.jsonl").write_text('{"prompt": "my mouse"}\n')
    (folder / "score.py").write_text("def score(prompt, answer):\n    return len(answer)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(TRAINING) == 0
        assert main(READING_A_RUN["eval"]) == 0
    shutil.copytree(folder / "run", folder / "other")
    return folder


@pytest.fixture
def place(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(material, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return tmp_path / "place"


def a_sentence_or_success(words: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    capsys.readouterr()
    code = main(words)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prefine: error: ")]
    assert code in (0, 1, 2), words
    assert len(said) == (code == 2), words
    assert all(len(line) < 1200 for line in said), words
    return code


def damage(path: Path, rng: random.Random) -> None:
    """Junk, a part, other bytes, other values; the file gone, or a folder in its place."""
    kind = rng.random()
    content = path.read_bytes()
    if kind < 0.05 or not content:
        path.unlink()
    elif kind < 0.1:
        path.unlink()
        path.mkdir()
    elif kind < 0.5 and path.suffix == ".json":
        path.write_text(json.dumps(replaced(json.loads(content), rng)))
    else:
        path.write_bytes(mutated(content, rng))


@pytest.mark.parametrize("seed", range(3))
def test_a_run(seed: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    found = [p for p in sorted((place / "run").rglob("*")) if p.suffix in (".yaml", ".json", ".jsonl") and "model" not in p.parts]
    for path in rng.sample(found, rng.choice([1, 1, 3])):
        damage(path, rng)
        if path.parent.name.startswith("checkpoint-") and path.name != checkpoints.MANIFEST:
            (path.parent / checkpoints.MANIFEST).unlink(missing_ok=True)
            checkpoints.seal(path.parent)  # a stranger would
    for words in READING_A_RUN.values():
        a_sentence_or_success(words, capsys)


NAMES = ("config.yaml", "data.json", "metrics.jsonl", "events.jsonl", "eval/final/verdicts.jsonl", "eval/final/summary.json")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_a_run_is_something_else(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in random.Random(name).sample(JUNK, 4):
        (place / "run" / name).write_bytes(content)
        for command in ("report", "doctor", "compare"):
            a_sentence_or_success(READING_A_RUN[command], capsys)
        if name.endswith(".jsonl"):
            a_sentence_or_success(["data", "show", f"run/{name}"], capsys)
            a_sentence_or_success(["doctor", f"run/{name}"], capsys)


FILES = {
    "base": (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "model.safetensors",
        "chat_template.jinja",
    ),
    "run/model": ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"),
}


@pytest.mark.parametrize("seed", range(4))
def test_a_model(seed: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    folder = ("base", "run/model")[seed % 2]
    damage(place / folder / rng.choice(FILES[folder]), rng)
    for words in READING_A_MODEL.values():
        a_sentence_or_success([word.format(folder) for word in words], capsys)


def test_a_step_that_is_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "run" / "metrics.jsonl").write_text('{"step": {}, "loss": 1}\n')
    shutil.rmtree(place / "run" / "checkpoints" / "checkpoint-2")
    assert a_sentence_or_success(READING_A_RUN["resume"], capsys) == 2


INDICES = [
    {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "gone.safetensors"}},
    {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "../../../../etc/passwd"}},
    {"weight_map": []},
    {"weight_map": {"a": 7}},
    [],
]


@pytest.mark.parametrize("index", INDICES)
def test_an_index_of_weights(index: Any, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "base" / "model.safetensors").unlink()
    (place / "base" / "model.safetensors.index.json").write_text(json.dumps(index))
    for command in ("generate", "merge"):
        assert a_sentence_or_success([word.format("base") for word in READING_A_MODEL[command]], capsys) == 2


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("generation_config.json", {"eos_token_id": "x"}, "no token's id"),
        ("generation_config.json", {"eos_token_id": [1, {"a": 1}]}, "no token's id"),
        ("config.json", {"vocab_size": -1}, "could not be loaded"),
        ("config.json", {"rope_parameters": {"rope_theta": [], "rope_type": "default"}}, "could not be loaded"),
    ],
)
def test_what_a_config_says(name: str, values: dict[str, Any], told: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "base" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    assert main([word.format("base") for word in READING_A_MODEL["generate"]]) == 2
    assert told in capsys.readouterr().err
    a_sentence_or_success([word.format("base") for word in READING_A_MODEL["plan"]], capsys)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"base_model_name_or_path": {"a": 1}}'])
def test_an_adapter_that_is_none(content: bytes, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "run" / "model" / "adapter_config.json").write_bytes(content)
    for command in ("generate", "merge", "eval", "plan"):
        assert a_sentence_or_success([word.format("run/model") for word in READING_A_MODEL[command]], capsys) == 2


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What datasets writes, Parquet, a clone with a card, a database."""
    import contextlib
    import sqlite3

    import datasets
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("sets")
    rows = [{"prompt": f"a {i}", "chosen": "good", "rejected": "bad"} for i in range(50)]
    made = datasets.Dataset.from_list(rows)
    made.save_to_disk(folder / "one")
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(folder / "many")
    (folder / "clone").mkdir()
    for path in (folder / "rows.parquet", folder / "clone" / "train-00000-of-00001.parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train-*\n---\n"
    (folder / "clone" / "README.md").write_text(card)
    with contextlib.closing(sqlite3.connect(folder / "rows.db")) as database:
        database.execute("create table rows (prompt text, chosen text, rejected text)")
        database.executemany("insert into rows values (?, ?, ?)", [tuple(r.values()) for r in rows])
        database.commit()
    return folder


SOURCES = {"one": "one", "many": "many:test", "clone": "clone", "rows.parquet": "rows.parquet", "rows.db": "sqlite:///rows.db"}


@pytest.mark.parametrize("seed", range(25))
def test_a_data_set(
    seed: int, data_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    shutil.copytree(data_sets, tmp_path / "sets")
    monkeypatch.chdir(tmp_path / "sets")
    name = list(SOURCES)[seed % len(SOURCES)]
    within = Path(SOURCES[name].replace(":", "/")) if name == "many" else Path(name)
    path = rng.choice([p for p in sorted(within.rglob("*")) if p.is_file()]) if within.is_dir() else within
    damage(path, rng)
    for command in ("show", "audit"):
        a_sentence_or_success(["data", command, SOURCES[name]], capsys)


@pytest.mark.parametrize("cut", [-1, -100, 600, 100, 0])
def test_a_part_of_an_arrow_file(cut: int, data_sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(data_sets / "one", tmp_path / "one")
    [arrow] = (tmp_path / "one").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[: cut or None] if cut else b"")
    code = a_sentence_or_success(["data", "show", str(tmp_path / "one")], capsys)
    assert code == 2
    arrow.unlink()
    assert a_sentence_or_success(["data", "show", str(tmp_path / "one")], capsys) == 2


def test_in_a_locale_without_letters(place: Path) -> None:
    """In a process of its own, what is damaged beside letters that the locale does not know."""
    strange = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    (place / "Grüße").mkdir()
    (place / "Grüße" / "config.yaml").write_text("model: 你好\nnote: [é", encoding="utf-8")
    (place / "é.jsonl").write_text('{"prompt": "你好", "chosen": "é", "rejected"\n', encoding="utf-8")
    for words in (["report", "Grüße"], ["data", "show", "é.jsonl"]):
        done = subprocess.run([sys.executable, "-m", "prefine.cli", *words], capture_output=True, env=os.environ | strange, check=False)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr
        assert done.stderr.startswith(b"prefine: error: ")
        assert done.stderr.count(b"\n") == 1
