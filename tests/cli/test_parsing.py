"""Help, mistakes, completion: what the command line says before anything is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

import prefine as pf
from prefine.api.fields import TRANSFORMERS
from prefine.api.options import load_yaml
from prefine.cli import COMMANDS, GROUPS, OWN_WORDS, find, main
from prefine.cli.parsing import parse

TRAINING = ("dpo", "sft", "reward", "ppo", "online-dpo")
NAMED = [name for name in COMMANDS if name not in OWN_WORDS]
EXAMPLES = Path(__file__).parents[2] / "examples"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert err.startswith("prefine: error: ")
    assert err.count("\n") == 1
    assert "loading" not in out
    return err


def test_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--help")
    assert all(name in text for name in COMMANDS)
    assert all(len(line) <= 110 for line in text.split("\n"))
    assert [g for g in GROUPS if f"{g}:" in text] == list(GROUPS)


@pytest.mark.parametrize("name", NAMED)
def test_help_shows_what_people_use(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, *name.split(), "--help")
    flat, flags = " ".join(text.split()), {line.split()[0] for line in text.split("\n") if line.startswith("  --")}
    options = find(name).options().values()
    for option in options:
        assert (option.flag in flags) == option.common, option.flag
    assert all(len(line) <= 80 for line in text.split("\n") if line.startswith("  "))
    if name in TRAINING:
        assert sum(o.common for o in options) <= 32
        assert "--help-all shows" in flat
        everything = said(capsys, *name.split(), "--help-all")
        assert TRANSFORMERS in everything
        assert "--adam-beta1" in everything


@pytest.mark.parametrize("name", NAMED)
def test_an_unknown_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown option --nonsens" in refused(capsys, *name.split(), "--nonsens", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dpo", "--lr", "1e-5"), "here it is 'learning_rate'"),
        (("dpo", "--model_name_or_path", "x"), "here it is 'model'"),
        (("dpo", "--per_device_batch_size", "8"), "here it is 'per_device_train_batch_size'"),
        (("ppo", "--max_completion_length", "8"), "here it is 'response_length'"),
        (("dpo", "--learning-rat", "1"), "did you mean 'learning_rate'"),
        (("dpo", "--learning-rate", "fast"), "--learning-rate: 'fast' is not a number"),
        (("dpo", "--max-steps", "1.5"), "--max-steps: '1.5' is not a whole number"),
        (
            (
                "dpo",
                "--load-in-4bit=perhaps",
            ),
            "'perhaps' is not true or false",
        ),
        (("dpo", "--model"), "--model needs a value"),
        (("dpo", "--loss-type", "--beta", "0.1"), "--loss-type needs a value"),
        (("dpo", "--max-steps="), "--max-steps: '' is not a whole number"),
        (("chat", "r", "--system", "-x"), "--system needs a value (System prompt); one that begins with a hyphen: --system=-VALUE"),
        (("dpo",), "--model is missing"),
        (("dpo", "word"), "unexpected argument 'word'; options begin with --"),
        (("eval", "a", "b"), "unexpected argument 'b'"),
        (("generat",), "did you mean 'generate'"),
        (("data", "shw", "x"), "did you mean 'show'"),
        (("completion", "bsh"), "did you mean 'bash'"),
        (("dpo", "--config", "nowhere.yaml"), "--config nowhere.yaml: no such file"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, *words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnin_rate: 1", "c.yaml: unknown key 'learnin_rate'; did you mean 'learning_rate'"),
        ("lr: 1", "c.yaml: unknown key 'lr'; here it is 'learning_rate'"),
        ("max_steps: many", "c.yaml: key 'max_steps': 'many' is not a whole number"),
        ("max_steps: [1, 2]", "c.yaml: key 'max_steps'"),
        ("max_steps:", "c.yaml: key 'max_steps' has no value"),
        ("- a\n- b", "expected 'key: value' lines, found list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_in_files(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert message in refused(capsys, "dpo", "--config", str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data", "a", "b", "--beta", "0.2"], {"data": ["a", "b"], "beta": 0.2}),
        (["--data", "a", "--data=b"], {"data": ["a", "b"]}),
        (["--data", "-"], {"data": ["-"]}),
        (["--load-in-4bit", "--no-resume"], {"load_in_4bit": True, "resume": False}),
        (
            ["--bf16", "True", "--fp16=false", "--tf32", "--eval-on-start"],
            {"bf16": True, "fp16": False, "tf32": True, "eval_on_start": True},
        ),
        (["--learning_rate", "5e-7"], {"learning_rate": 5e-7}),
        (["--max-steps", "-1"], {"max_steps": -1}),
        (["--hub-private-repo", "--output-dir", "r"], {"hub_private_repo": True, "output_dir": "r"}),
        (["--loss-type", "sigmoid", "sft", "--loss-weights", "1", "0.2"], {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}),
        (["--report-to", "none"], {"report_to": "none"}),
        (["--debug", "underflow_overflow"], {"debug": "underflow_overflow"}),
        (["--max-length", "none"], {"max_length": None}),
        (["--retain", ""], {"retain": ""}),
        (["--retain="], {"retain": ""}),
        (["--retain=-x"], {"retain": "-x"}),
        (["--resume", "yes"], {"resume": True}),
        (["--loss-weights", "1", "-0.5"], {"loss_weights": [1.0, -0.5]}),
        (["--model-init-kwargs", '{"a": 1}'], {"model_init_kwargs": {"a": 1}}),
    ],
)
def test_what_is_given(words: list[str], expected: dict[str, object]) -> None:
    assert parse("dpo", words, pf.dpo.options()) == expected


def test_flags_win_over_keys(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("learning-rate: 1e-5\nmax_steps: 3\n")
    found = parse("dpo", ["--max-steps", "5", "--config", str(tmp_path / "c.yaml")], pf.dpo.options())
    assert found == {"learning_rate": 1e-5, "max_steps": 5}


def test_debug_is_transformers_where_a_value_follows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(pf.PrefineError):
        main(["dpo", "--debug", "--max-steps", "1"])
    with pytest.raises(pf.PrefineError):
        main(["data", "show", "nowhere.jsonl", "--traceback"])
    assert "--model is missing" in refused(capsys, "dpo", "--debug", "underflow_overflow")


@pytest.mark.parametrize("name", NAMED)
def test_printed_files_start_a_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, *name.split(), "--print-config")
    assert yaml.safe_load(text) is None
    schema = json.loads(said(capsys, *name.split(), "--json-schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(find(name).options())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.name)
def test_the_schema_validates_the_examples(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = path.read_text().partition("\n")[0].split()[2]
    schema = json.loads(said(capsys, command, "--json-schema"))
    jsonschema.validate(load_yaml(path.read_text()), schema)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = said(capsys, "completion", shell)
    for word in ("online-dpo", "data", "audit", "learning-rate"):
        assert word in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        assert subprocess.run([shell, "-n", str(tmp_path / "script")], check=False, capture_output=True).returncode == 0


def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell does it: the words so far in, candidates out."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    (tmp_path / "script").write_text(said(capsys, "completion", "bash"))
    ask = (
        f"source {tmp_path}/script; f=$(complete -p prefine | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
        'COMP_WORDS=(prefine {words}); COMP_CWORD={at}; COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}; $f; '
        'echo "${{COMPREPLY[@]}}"'
    )
    for words, at, expected in (("onl", 1, "online-dpo"), ("dpo --learning-r", 2, "--learning-rate"), ("data aud", 2, "audit")):
        line = ask.replace("{words}", words).replace("{at}", str(at)).replace("{{", "{").replace("}}", "}")
        found = subprocess.run([bash, "-c", line], check=False, capture_output=True, text=True)
        assert expected in found.stdout.split(), (words, found)


@pytest.mark.parametrize(
    "words", [["--help"], ["dpo", "--help"], ["dpo", "--nonsense"], ["data", "show", "nowhere.jsonl"], ["completion", "bash"]]
)
def test_what_needs_no_torch_imports_none(words: list[str]) -> None:
    code = f"import sys; from prefine.cli import main; main({words}); sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)) * 77)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_a_small_command_imports_little(pairs_file: Path) -> None:
    """What is started often starts fast: nothing that takes long to import, unless it is used."""
    words = ["data", "show", str(pairs_file)]
    late = ["torch", "transformers", "numpy", "pandas", "asyncio", "openai", "prefine.packing", "prefine.training"]
    code = f"import sys; from prefine.cli import main; main({words}); print([m for m in {late} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
