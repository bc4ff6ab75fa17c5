"""Secrets are in nothing that is written or printed: planted everywhere, every file of every command is searched."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from hypothesis import given
from hypothesis import strategies as st

import prefine
from conftest import lab_pairs
from judge_server import Handler, Misbehaving, serving
from prefine.cli import main
from prefine.redaction import REDACTED, redact, redacted, remember

PLANTED = {
    "OPENAI_API_KEY": "sk-planted/openai+1Q",
    "HF_TOKEN": "hf_plantedHuggingFace22",
    "WANDB_API_KEY": "planted-wandb-333x",
    "MY_OWN_KEY": "correct horse & battery",
    "hub_token": "hf_plantedHubToken4444",
    "token": "hf_plantedInitToken555",
    "password": "plantedpass66",
    "user:password@": "planted:plantedpass66@",
    "yaml": "hf_plantedInYaml77777",
    "api_key=": "plantedparameter8",
}
KNOWN = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "MY_OWN_KEY", "password", "user:password@", "api_key=")
"""What a command that asks a server has been given, in its environment or its words."""
SPELT = {form for value in PLANTED.values() for form in (value, json.dumps(value)[1:-1], value.replace("&", "&amp;"))}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what is written by commands in it; the environment holds secrets."""
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "MY_OWN_KEY"):
        monkeypatch.setenv(name, PLANTED[name])
    monkeypatch.setenv("PREFINE_CACHE", str(tmp_path / "written" / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "written").mkdir()
    return tmp_path / "written"


def leaks(folder: Path, *printed: str) -> list[str]:
    """Where a planted value was found."""
    files = [(str(p), p.read_bytes()) for p in folder.rglob("*") if p.is_file()]
    assert printed
    texts = [*files, *(("printed", text.encode()) for text in printed)]
    return [f"{name}: {form}" for name, content in texts for form in SPELT if form.encode() in content or form in name]


class Echoing(Handler):
    """Says back all that it was told, and what it may have found in an environment."""

    server: Misbehaving

    def do_POST(self) -> None:
        self.server.asked["any"] += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked, key = json.loads(body)["messages"][-1]["content"][:20], self.headers.get("Authorization")
        told = f"{asked} key {key} {' '.join(PLANTED[name] for name in KNOWN)}"
        status = self.server.faults.get("", 200)
        words = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": told}}]}
        if status == 200:
            return self._send(200, words | {"id": "x", "object": "chat.completion", "created": 0, "model": "m"})
        self._send(int(status), {"error": {"message": told}})


@pytest.fixture
def echoing() -> Iterator[Misbehaving]:
    with serving(lambda body: "") as server:
        server.RequestHandlerClass = Echoing
        yield server


def rows_of(command: str) -> list[dict[str, Any]]:
    pairs = lab_pairs(16)
    if command == "sft":
        return [{"prompt": row["prompt"][0]["content"], "completion": row["chosen"]} for row in pairs]
    return [{"prompt": row["prompt"]} for row in pairs] if command in ("ppo", "online-dpo") else pairs


def flags_of(command: str, place: Path) -> list[str]:
    if command not in ("ppo", "online-dpo"):
        return []
    (place.parent / "mine.py").write_text("def score(prompt, response):\n    return float(len(response))\n")
    return ["--reward-function", "mine.py:score", "--response-length", "4", "--per-device-train-batch-size", "4"]


@pytest.mark.filterwarnings("ignore:the run had ended within a rollout")
@pytest.mark.parametrize("command", ["dpo", "sft", "reward", "ppo", "online-dpo"])
def test_training_writes_none(
    command: str, place: Path, lab_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transformers.Trainer, "init_hf_repo", lambda self, token=None: None)
    monkeypatch.setattr(transformers.Trainer, "_push_from_checkpoint", lambda self, folder: None)
    monkeypatch.setattr(transformers.Trainer, "push_to_hub", lambda self, **more: None)
    data = place.parent / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows_of(command)))
    settings = {"model_init_kwargs": {"token": PLANTED["yaml"]}} if command == "dpo" else {"seed": 1}
    (place.parent / "run.yaml").write_text(yaml.safe_dump(settings))
    run = place / "run"
    words = [command, "--model", str(lab_model), "--data", str(data), "--output-dir", str(run), "--config", str(place.parent / "run.yaml")]
    words += ["--push-to-hub", "--hub-token", PLANTED["hub_token"], "--max-steps", "2", "--save-steps", "1", *flags_of(command, place)]
    words += ["--report-to", "tensorboard"] if _has_tensorboard() else []
    words += [] if command == "dpo" else ["--model-init-kwargs", json.dumps({"token": PLANTED["token"]})]
    code = main(words)
    out, err = capfd.readouterr()
    assert code == 0, err
    assert leaks(place, out, err) == []
    assert list(run.rglob("training_args.bin"))
    assert REDACTED in (run / "config.yaml").read_text()
    # What is repeated without its secrets says so; the run goes on when they are given again.
    assert main([command, "--config", str(run / "config.yaml"), "--output-dir", str(place / "again")]) == 2
    assert "the secret was left out of the file" in capfd.readouterr().err
    assert main([*words, "--max-steps", "3", "--resume"]) == 0
    assert leaks(place, *capfd.readouterr()) == []


def _has_tensorboard() -> bool:
    from transformers.integrations import is_tensorboard_available

    return bool(is_tensorboard_available())


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_what_a_server_says_back(
    status: int, place: Path, lab_model: Path, pairs_file: Path, echoing: Misbehaving, capfd: pytest.CaptureFixture[str]
) -> None:
    echoing.faults[""] = status
    address = echoing.url.replace("http://", f"http://{PLANTED['user:password@']}") + f"?api_key={PLANTED['api_key=']}"
    for name in ("a", "b"):
        (place / f"{name}.jsonl").write_text(json.dumps({"instruction": "hello", "output": name, "generator": name}) + "\n")
    judge = ["--judge", "openai", "--judge-model", "m", "--server", address, "--retries", "0", "--key-variable", "MY_OWN_KEY"]
    main(["judge", str(place / "a.jsonl"), str(place / "b.jsonl"), *judge, "--output-dir", str(place / "judged")])
    if status < 500:  # generate would try again and again
        main(["generate", "--model", "m", "--server", address, "--prompts", str(place / "a.jsonl"), "--output", str(place / "g.jsonl")])
        main(["generate", "--model", "m", "--server", echoing.url, "--prompts", str(place / "a.jsonl"), "--output", str(place / "h.jsonl")])
    assert leaks(place, *capfd.readouterr()) == []
    assert echoing.bodies or echoing.asked["any"]


def test_a_traceback_shows_none(place: Path) -> None:
    code = (
        "import sys, prefine.cli\nfrom prefine.cli import find\n"
        f"sys.argv = ['prefine', 'env', '--traceback']\n"
        f"def fails(*a): raise RuntimeError('Bearer {PLANTED['OPENAI_API_KEY']} is refused')\n"
        "object.__setattr__(find('env').call, 'function', fails)\nsys.exit(prefine.cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"RuntimeError: Bearer {REDACTED} is refused" in done.stderr
    assert leaks(place, done.stdout, done.stderr) == []


@pytest.mark.parametrize(
    "words",
    [
        ["dpo", "--hub-token", PLANTED["hub_token"], "--hub-token-of", "x", "--model", "m", "--data", "d"],
        ["dpo", "--model-init-kwargs", '{"token": "' + PLANTED["token"] + '"', "--model", "m", "--data", "d"],
        ["dpo", "--model", "m", "--data", f"postgresql://{PLANTED['user:password@']}host/db#SELECT 1"],
        ["dpo", "--config", "bad.yaml"],
        ["data", "show", f"http://{PLANTED['user:password@']}host/x.jsonl"],
        ["judge", "a", "b", "--judge", "openai", "--server", f"ftp://{PLANTED['user:password@']}host", "--judge-model", "m"],
    ],
)
def test_errors_show_none(words: list[str], place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place.parent / "bad.yaml").write_text(f"hub_token: {PLANTED['yaml']}\n  learning_rate: [1, 2\n")
    assert main(words) == 2
    assert leaks(place, *capfd.readouterr()) == []


def test_saved_arguments_hold_none(tmp_path: Path) -> None:
    """A script's trainer saves its arguments beside every model; a copy of them is whole."""
    kwargs = {"token": PLANTED["token"], "revision": "main"}
    args = prefine.DPOConfig(output_dir=str(tmp_path), hub_token=PLANTED["hub_token"], model_init_kwargs=kwargs)
    torch.save(args, tmp_path / "training_args.bin")
    assert leaks(tmp_path, repr(args.to_dict()), args.to_json_string()) == []
    assert pickle.loads(pickle.dumps(args)).model_init_kwargs["revision"] == "main"
    for copied in (copy.copy(args), copy.deepcopy(args)):
        assert (copied.hub_token, copied.model_init_kwargs, type(copied)) == (args.hub_token, kwargs, prefine.DPOConfig)


@given(st.text(min_size=6).filter(lambda s: s.strip() == s and s not in REDACTED), st.text(), st.text())
def test_every_spelling_is_found(secret: str, before: str, after: str) -> None:
    remember({"inner": [{"ignored": secret}], "api_key": secret})
    text = redact(before + secret + after)
    assert secret not in text.replace(REDACTED, "")
    told = json.loads(json.dumps(redacted({"api_key": secret, "said": [f"{before} {secret}"]})))
    assert told["api_key"] == REDACTED
    assert secret not in told["said"][0].replace(REDACTED, "")


@pytest.mark.parametrize("name", ["pad_token", "eos_token", "stop_token", "max_tokens", "token_budget", "key_variable", "num_tokens"])
def test_settings_are_no_secrets(name: str) -> None:
    assert redacted({name: "<|endoftext|>"}) == {name: "<|endoftext|>"}
    remember({name: "<|endoftext|>"})
    assert redact("ends at <|endoftext|>") == "ends at <|endoftext|>"
