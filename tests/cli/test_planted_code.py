"""Files that a stranger made: what they would run is not run, whoever reads them, and what is said is one sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prefine as pf
from prefine import checkpoints
from prefine.cli import main
from prefine.packing.checksum import checksum

pytestmark = pytest.mark.filterwarnings("ignore")


class Planted:
    """Unpickled by whoever trusts a pickle, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def saved(mark: Path, **how: Any) -> bytes:
    out = io.BytesIO()
    torch.save(Planted(mark), out, **how)
    return out.getvalue()


def of_objects(mark: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Planted(mark)], object), allow_pickle=True)
    return out.getvalue()


PICKLES: dict[str, Callable[[Path], bytes]] = {
    "plain": lambda mark: pickle.dumps(Planted(mark)),
    "torch": saved,
    "torch of old": lambda mark: saved(mark, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_what_is_planted_would_run(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(PICKLES[kind](tmp_path / "mark"))
    torch.load(tmp_path / "file", weights_only=False) if "torch" in kind else pickle.loads((tmp_path / "file").read_bytes())
    assert (tmp_path / "mark").exists()


@pytest.fixture(scope="module")
def material(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of DPO with an adapter, of DPO with a reference that moves and of PPO, each with a checkpoint of its first step; the base."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(lab_model, folder / "base")
    (folder / "score.py").write_text(
        "def score(prompt, answer):\n    return len(answer)\ndef reward(prompts, responses):\n    return [1.0 for r in responses]\n"
    )
    (folder / "prompts.jsonl").write_text('{"prompt": "my mouse"}\n')
    shutil.copy(pairs_file, folder / "pairs.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for run in ("dpo", "moving", "ppo"):
            assert main(training(run)) == 0
            shutil.rmtree(folder / run / "checkpoints" / "checkpoint-2")
    return folder


def training(run: str) -> list[str]:
    method, data = ("ppo", "prompts.jsonl") if run == "ppo" else ("dpo", "pairs.jsonl")
    words = [method, "--model", "base", "--data", data, "--output-dir", run, "--max-steps", "2", "--save-steps", "1"]
    own = {
        "dpo": ["--final-eval", "off", "--lora-r", "2", "--eval-fraction", "0.2"],
        "moving": ["--final-eval", "off", "--sync-ref-model", "--ref-model-sync-steps", "1"],
        "ppo": ["--eval-fraction", "0", "--response-length", "4", "--num-samples", "2", "--reward-function", "score.py:reward",
                "--per-device-train-batch-size", "1", "--lora-r", "2", "--num-ppo-epochs", "1", "--num-mini-batches", "1"],
    }  # fmt: skip
    return words + own[run]


@pytest.fixture
def place(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the material, in which commands are run; somebody says yes to all that is asked."""
    shutil.copytree(material, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 99))
    edit(Path("dpo/model/adapter_config.json"), base_model_name_or_path="base")
    return tmp_path / "place"


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def in_a_process(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "prefine.cli", *words], capture_output=True, text=True, check=False, input="y\n" * 9)


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prefine: error: ")]
    return said[0] if len(said) == 1 else f"not one sentence: {said}"


READ = [
    *(("dpo", name, "torch") for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "adapter_model.bin")),
    *(("dpo", "optimizer.pt", "plain"), ("dpo", "optimizer.pt", "torch of old"), ("dpo", "trainer_state.json", "plain")),
    *(("moving", "reference.pt", "torch"), ("moving", "pytorch_model.bin", "torch"), ("ppo", "sampling.pt", "torch")),
]


@pytest.mark.parametrize(("run", "name", "kind"), READ)
def test_a_checkpoint_runs_nothing(run: str, name: str, kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its manifest is whole: whoever can write the one can write the other."""
    folder = place / run / "checkpoints" / "checkpoint-1"
    assert (folder / name).exists() or name.endswith(".bin") or name == "scaler.pt"
    (folder / name).write_bytes(PICKLES[kind](place / "mark"))
    if name.endswith(".bin"):
        (folder / name).with_suffix(".safetensors").unlink(missing_ok=True)
        (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / checkpoints.MANIFEST).unlink()
    checkpoints.seal(folder)
    capsys.readouterr()
    assert main([*training(run), "--resume"]) == 2
    told = sentence(capsys)
    assert "checkpoint-1: " in told
    assert "could not be loaded from the checkpoint (" in told
    assert "weights_only" not in told  # torch advises to switch it off
    assert told.endswith("[PF-F07]")
    assert not (place / "mark").exists()


def test_what_nobody_reads_does_no_harm(place: Path) -> None:
    folder = place / "dpo" / "checkpoints" / "checkpoint-1"
    names = ("training_args.bin", "optimizer.bin", "custom_checkpoint_0.pkl", "random_states_0.pkl", "vocab.pkl", "model.pt", "a.npz")
    for name in names:
        (folder / name).write_bytes(PICKLES["torch"](place / "mark"))
    (folder / checkpoints.MANIFEST).unlink()
    checkpoints.seal(folder)
    assert main([*training("dpo"), "--resume"]) == 0
    assert not (place / "mark").exists()


COMMANDS = {
    "generate": ["generate", "--model", "dpo/model", "--prompts", "prompts.jsonl", "--max-new-tokens", "3", "--output", "out.jsonl"],
    "eval": ["eval", "dpo", "--max-new-tokens", "3", "--judge", "python", "--function", "score.py:score"],
    "merge": ["merge", "dpo"],
    "plan": ["plan", "dpo", "--model", "dpo/model", "--data", "pairs.jsonl"],
    "data show": ["data", "show", "pairs.jsonl", "--tokens", "--model", "dpo/model"],
    "report": ["report", "dpo"],
    "doctor": ["doctor", "dpo"],
    "compare": ["compare", "dpo", "moving"],
}


def all_refuse(names: list[str], told: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for name, words in COMMANDS.items():
        code = main(words)
        assert not (place / "mark").exists(), name
        if name in names:
            assert code == 2, name
            assert told in sentence(capsys), name
        else:
            assert code == 0, name
            capsys.readouterr()


@pytest.mark.parametrize("kind", PICKLES)
def test_weights_run_nothing(kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (place / "base", place / "dpo" / "model"):
        for weights in folder.glob("*.safetensors"):
            weights.unlink()
        for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "model.pt", "consolidated.00.pth", "vocab.pkl"):
            (folder / name).write_bytes(PICKLES[kind](place / "mark"))
    all_refuse(["generate", "eval", "merge"], "a pickle that is damaged, or would run code to be read, and was not read", place, capsys)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_runs_nothing(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "dpo" / "model" / name).write_bytes(PICKLES["plain"](place / "mark"))
    refuse = ["generate", "eval", "merge", "plan", "data show"]
    all_refuse(refuse, "no tokenizer could be loaded", place, capsys)


CODE = "import os\nos.mkdir({!r})\nfrom transformers import LlamaConfig as C, LlamaForCausalLM as M, PreTrainedTokenizerFast as T\n"
AUTO_MAP = {"AutoConfig": "planted.C", "AutoModelForCausalLM": "planted.M", "AutoModelForSequenceClassification": "planted.M"}


def test_code_beside_a_base_is_not_asked_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --trust-remote-code it does not run, whatever lies on standard input; an adapter's base is a model as any other."""
    (place / "base" / "planted.py").write_text(CODE.format(str(place / "mark")))
    edit(place / "base" / "config.json", auto_map=AUTO_MAP, model_type="planted")
    all_refuse(["generate", "eval", "merge", "plan"], "give --trust-remote-code if it may run", place, capsys)
    assert main(["reward", "--model", "dpo/model", "--data", "pairs.jsonl", "--output-dir", "reward", "--max-steps", "1"]) == 2
    assert not (place / "mark").exists()
    in_a_process([*COMMANDS["generate"], "--trust-remote-code"])
    assert (place / "mark").exists()  # where it may, it does


def test_code_beside_a_tokenizer(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "dpo" / "model"
    (folder / "planted.py").write_text(CODE.format(str(place / "mark")))
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["planted.T", "planted.T"]}, tokenizer_class="Planted")
    all_refuse(["generate", "eval", "merge", "plan", "data show"], "give --trust-remote-code if it may run", place, capsys)


@pytest.mark.parametrize(
    "values",
    [
        {"megatron_config": {"a": 1}, "megatron_core": "planted.core"},
        {"task_type": None, "auto_mapping": {"base_model_class": "M", "parent_library": "planted"}},
    ],
)
def test_an_adapter_imports_nothing(
    values: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "planted.py").write_text(CODE.format(str(place / "mark")))
    monkeypatch.syspath_prepend(str(place))
    edit(place / "dpo" / "model" / "adapter_config.json", **values)
    for name in ("generate", "eval", "merge"):
        assert main(COMMANDS[name]) == 2
        assert "could not be loaded as a causal language model" in sentence(capsys)
        assert not (place / "mark").exists()


TEMPLATES = {
    "a class": "{{{{ messages.__class__.__mro__[1].__subclasses__() }}}}",
    "globals": "{{{{ lipsum.__globals__['os'].mkdir('{mark}') }}}}",
    "a constructor": "{{{{ cycler.__init__.__globals__.os.mkdir('{mark}') }}}}",
    "by a filter": "{{{{ (cycler|attr('__init__')|attr('__globals__'))['os'].mkdir('{mark}') }}}}",
    "by a format": "{{{{ '{{0.__class__.__init__.__globals__}}'.format(cycler) }}}}",
    "a file": "{{% include '/etc/hostname' %}}",
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_reaches_no_python(kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "dpo" / "model" / "chat_template.jinja").write_text(TEMPLATES[kind].format(mark=place / "mark"))
    turns = {
        name: [{"role": role, "content": name}] for name, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    }
    (place / "turns.jsonl").write_text(json.dumps(turns) + "\n")
    for words in (["data", "show", "turns.jsonl", "--tokens", "--model", "dpo/model"], COMMANDS["generate"]):
        assert main(words) in (0, 1, 2)
        said = "".join(capsys.readouterr())
        assert "the chat template" in said
        assert "<module" not in said
    assert not (place / "mark").exists()


def test_data_runs_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Arrow's own pickled types, in Parquet and in a folder of datasets."""
    import datasets
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"prompt": ["a"], "chosen": ["good"], "rejected": ["bad"]})
    marked = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": PICKLES["plain"](place / "mark")}
    schema = pyarrow.schema([table.schema.field(0).with_metadata(marked), table.schema.field(1), table.schema.field(2)])
    planted = pyarrow.Table.from_arrays(table.columns, schema=schema)
    parquet.write_table(planted, "pairs.parquet")
    datasets.Dataset.from_dict(table.to_pydict()).save_to_disk("saved")
    [arrow] = (place / "saved").glob("*.arrow")
    with pyarrow.OSFile(str(arrow), "wb") as out, pyarrow.ipc.new_stream(out, schema) as stream:
        stream.write_table(planted)
    (place / "rows.npy").write_bytes(of_objects(place / "mark"))
    (place / "rows.pkl").write_bytes(PICKLES["plain"](place / "mark"))
    for source in ("pairs.parquet", "saved", "rows.npy", "rows.pkl"):
        for command in ("show", "audit"):
            assert main(["data", command, source]) in (0, 2)
            assert capsys.readouterr().err.count("\n") <= 1
            assert not (place / "mark").exists()


def test_a_cache_runs_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log-probs of the reference under a name that is right for what they hold."""
    cache = place / "cache"
    words: dict[str, Any] = {"output_dir": "run", "max_steps": 1, "final_eval": "off"}
    words |= {"precompute_ref_log_probs": True, "reference_cache_dir": cache}
    pf.dpo("base", "pairs.jsonl", **words)
    [path] = cache.glob("*.npy")
    for content in (of_objects(place / "mark"), b"no array"):
        shutil.rmtree("run")
        path.unlink()
        path.write_bytes(content)
        path = path.rename(path.with_name(f"{path.stem.rpartition('-')[0]}-{checksum(path)}.npy"))
        with pytest.warns(UserWarning, match="the cache is damaged"):
            pf.dpo("base", "pairs.jsonl", **words)
        assert not (place / "mark").exists()
        [path] = cache.glob("*.npy")
        assert np.load(path).dtype == np.float32


@pytest.mark.parametrize("command", ["eval", "merge"])
def test_in_a_process_of_its_own(command: str, place: Path) -> None:
    for folder in (place / "base", place / "dpo" / "model"):
        for weights in folder.glob("*.safetensors"):
            weights.unlink()
            weights.with_name({"model": "pytorch_model.bin"}.get(weights.stem, f"{weights.stem}.bin")).write_bytes(
                PICKLES["torch"](place / "mark")
            )
    done = in_a_process(COMMANDS[command])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("prefine: error: ")] == [done.stderr.splitlines()[-1]]
    assert not (place / "mark").exists()
