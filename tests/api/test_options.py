"""Options: one notion of a value for flags, files and calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import prefine as pf
from prefine.api.fields import CONFIGS, TABLE, make_table, versions
from prefine.api.judges import JudgeChoice
from prefine.api.options import HINTS, as_flags, checked, coerce, json_schema, load_yaml, options_of, print_config, read_yaml
from prefine.cli import find
from prefine.cli.parsing import parse
from prefine.errors import ConfigError


@dataclass
class Kinds:
    """A field of each kind."""

    whole: int = field(default=3, metadata={"help": "."})
    number: float | None = field(default=None, metadata={"help": "."})
    on: bool = field(default=False, metadata={"help": "."})
    word: str = field(default="off", metadata={"help": "."})
    words: list[str] | None = field(default=None, metadata={"help": "."})
    numbers: float | list[float] = field(default=0.1, metadata={"help": "."})
    either: int | str = field(default="auto", metadata={"help": "."})
    told: str | bool | None = field(default=None, metadata={"help": "."})
    settings: dict[str, Any] | str | None = field(default=None, metadata={"help": "."})


OPTIONS = options_of(Kinds)
EXPECTED = [
    *(("whole", "512", 512), ("whole", 512, 512), ("number", "5e-7", 5e-7), ("number", "none", None), ("number", "16", 16)),
    *(("on", "true", True), ("on", "False", False), ("on", True, True), ("word", "none", "none"), ("word", 5, "5")),
    *(("words", "one", ["one"]), ("words", ["a", "b"], ["a", "b"]), ("words", "none", None), ("numbers", "0.5", 0.5)),
    *(
        ("numbers", ["0.5", "1"], [0.5, 1.0]),
        ("numbers", ["0.5"], 0.5),
        ("either", "4096", 4096),
        ("either", "auto", "auto"),
        ("told", "true", True),
    ),
    *(("told", "owner/name", "owner/name"), ("settings", "{a: 1}", {"a": 1}), ("settings", "a=1", {"a": 1})),
    *(("settings", "file.json", "file.json"), ("settings", {"a": 1}, {"a": 1}), ("words", Path("a/b"), ["a/b"])),
]


@pytest.mark.parametrize(("name", "value", "expected"), EXPECTED)
def test_values(name: str, value: Any, expected: Any) -> None:
    found = coerce(OPTIONS[name], value, "--x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("whole", "3.5", "not a whole number"),
        ("whole", "three", "not a whole number"),
        ("number", "fast", "not a number"),
        ("number", True, "expected a number"),
        ("on", "perhaps", "not true or false"),
        ("word", True, "expected text"),
        ("whole", None, "has no value"),
        ("numbers", ["a"], "a list"),
    ],
)
def test_values_of_another_type(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        coerce(OPTIONS[name], value, "--x")


def test_objects_pass_where_they_are_taken() -> None:
    judge = object()
    assert coerce(options_of(JudgeChoice)["judge"], judge, "--x") is judge
    with pytest.raises(ConfigError, match="a object is no value for it; expected text"):
        coerce(OPTIONS["word"], judge, "--x")
    with pytest.raises(ConfigError, match=r"train it with prefine\.DPOTrainer"):
        pf.dpo(torch.nn.Linear(1, 1), "data")


def test_what_stands_for_a_plain_value_is_that() -> None:
    assert coerce(OPTIONS["words"], [Path("a"), Path("b")], "--x") == ["a", "b"]
    assert coerce(OPTIONS["words"], ("a", "b"), "--x") == ["a", "b"]
    assert coerce(OPTIONS["word"], torch.bfloat16, "--x") == "bfloat16"
    assert coerce(OPTIONS["whole"], np.int64(3), "--x") == 3
    assert coerce(OPTIONS["number"], np.float32(0.5), "--x") == 0.5


@pytest.mark.parametrize("text", ["2024-01-01", "123", "1e5", "12:30", "a: b", "no"])
def test_text_for_an_option_of_any_type_stays_text(text: str) -> None:
    assert coerce(pf.evaluate.options()["base"], text, "--x") == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("010", 10), ("12:30", "12:30"), ("1_000", "1_000"), ("0o10", 8), ("0x10", 16), ("2024-01-01", "2024-01-01"), ("5e-7", 5e-7)),
        *((".5", 0.5), ("1.", 1.0), ("yes", "yes"), ("~", None), ("true", True), ("-3", -3), (".inf", float("inf")), ("0b11", "0b11")),
    ],
)
def test_files_are_yaml_1_2(text: str, value: Any) -> None:
    """YAML 1.2.2's core schema, 10.3.2."""
    assert load_yaml(f"key: {text}") == {"key": value}


@pytest.mark.parametrize(
    "given",
    [
        {"model": "m", "lora_r": 16, "resume": True, "bf16": False, "data": ["a b.jsonl", "-"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, -0.5], "max_length": None},
        {"retain": "-x", "model_init_kwargs": {"a": [1, {"b": "c d"}]}, "learning_rate": 5e-7},
    ],
)
def test_flags_say_what_was_given(given: dict[str, Any]) -> None:
    words = as_flags("dpo", given)
    assert parse("dpo", words[1:], pf.dpo.options()) == checked(given, pf.dpo.options())


@given(st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_a_value_means_the_same_as_text_and_as_itself(value: Any) -> None:
    name = "on" if isinstance(value, bool) else "whole" if isinstance(value, int) else "number"
    assert coerce(OPTIONS[name], str(value), "--x") == coerce(OPTIONS[name], value, "--x") == value


def test_files_mean_what_people_write(tmp_path: Path) -> None:
    """YAML 1.1 would make booleans of no and off, and text of 5e-7."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "eval_strategy: no\nfinal_eval: off\nlearning-rate: 5e-7\ndata: pairs.jsonl\nmap: {prompt: question}\nreport_to: none\nbf16: yes\n"
    )
    found = read_yaml(str(path), pf.dpo.options())
    assert found == {
        **{"eval_strategy": "no", "final_eval": "off", "learning_rate": 5e-7, "data": ["pairs.jsonl"], "map": {"prompt": "question"}},
        **{"report_to": "none", "bf16": True},
    }


@pytest.mark.parametrize("foreign", sorted(HINTS))
def test_names_from_elsewhere_are_told_by_their_name_here(foreign: str) -> None:
    homes = [find(command).options() for command in CONFIGS]
    for options in (o for o in homes if HINTS[foreign] in o and foreign not in o):
        with pytest.raises(ConfigError, match=f"here it is '{HINTS[foreign]}'"):
            checked({foreign: 1}, options)


def test_old_names_still_answer() -> None:
    from prefine.api.judges import Gates

    assert checked({"works": 0.6, "even": 0.5, "allowed": 0.02}, options_of(Gates)) == {
        **{"min_win_rate": 0.6, "null_rate": 0.5, "tolerance": 0.02}
    }


def test_the_table_is_what_the_configs_say() -> None:
    import json

    if json.loads(TABLE.read_text())["versions"] != versions():
        assert pf.dpo.options()["learning_rate"].kinds == (float,)  # made anew for the versions that are installed
        return
    assert json.loads(TABLE.read_text()) == json.loads(json.dumps(make_table(), default=str)), "run python docs/generate.py"


@pytest.mark.parametrize("command", sorted(CONFIGS))
def test_print_config_and_schema(command: str, tmp_path: Path) -> None:
    options = find(command).options()
    text = print_config(command, options)
    assert yaml.safe_load(text) is None  # all of it is commented out
    keys = [line for line in text.split("\n") if line.startswith("#") and not line.startswith(("# ", "# ---")) and ":" in line]
    assert len(keys) == len(options)
    schema = json_schema(command, options)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    whole = {o.name: o.default for o in options.values() if o.default is not None}
    assert not list(validator.iter_errors(whole))
    path = tmp_path / "whole.yaml"
    path.write_text(yaml.safe_dump(whole))
    assert read_yaml(str(path), options) == whole
    assert [e.validator for e in validator.iter_errors({"learnin_rate": 1})] == ["additionalProperties"]
    assert list(validator.iter_errors({"max_steps": "many"}))
