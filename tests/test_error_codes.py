"""The catalogue of errors: every code is raised, every message is printed, and the command line says both."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import lab_pairs
from prefine import errors
from prefine.cli import main
from prefine.error_codes import GROUPS, KINDS
from prefine.errors import PrefineError

SOURCE = Path(__file__).parents[1] / "src" / "prefine"
CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PrefineError)}
BY_SYSTEM = "PF-F05"
"""Of errors that are no exceptions of ours: the system's of a file."""


def raised() -> Iterator[tuple[str, ast.expr]]:
    """The code and the message's expression of every error that is made anywhere."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES and node.args:
                given = [k.value for k in node.keywords if k.arg == "code"]
                assert all(isinstance(value, ast.Constant) for value in given), f"{path}, line {node.lineno}: a code is written out"
                yield (given[0].value if given else CLASSES[node.func.id].code), node.args[0]


def pattern(message: ast.expr) -> str:
    """A regular expression of what a message's expression may give."""
    if isinstance(message, ast.Constant):
        return re.escape(str(message.value))
    if isinstance(message, ast.JoinedStr):
        return "".join(pattern(part) for part in message.values)
    if isinstance(message, ast.BinOp) and isinstance(message.op, ast.Add):
        return pattern(message.left) + pattern(message.right)
    return ".*"


def test_every_code_is_raised_and_every_raised_code_explained() -> None:
    found = {code for code, _ in raised()}
    assert found - KINDS.keys() == set()
    assert KINDS.keys() - found - {BY_SYSTEM, PrefineError.code} == set()
    assert f"[{BY_SYSTEM}]" in (SOURCE / "cli" / "__init__.py").read_text()


def test_every_example_is_a_message_that_is_printed() -> None:
    patterns = defaultdict(list)
    for code, message in raised():
        patterns[code].append(pattern(message))
    for code, kind in KINDS.items():
        if code not in (BY_SYSTEM, PrefineError.code):
            assert any(re.fullmatch(p, kind.example, re.S) for p in patterns[code]), f"{code}: {kind.example}"


def test_the_catalogue_is_whole() -> None:
    assert len(KINDS) >= 40
    for code, kind in KINDS.items():
        assert re.fullmatch(rf"PF-[{''.join(GROUPS)}]\d\d", code)
        assert kind.code == code
        assert all((kind.name, kind.meaning, kind.example, kind.fix))
    for name, kind in CLASSES.items():
        assert kind("x").code in KINDS, name
        assert kind("x", code="PF-M07").code == "PF-M07"
        assert str(kind("x", code="PF-M07")) == "x"


PAIR = lab_pairs(1)[0]
MISTAKES = {
    "PF-D01": "data show pairs.jsonl --map prompt=nothing",
    "PF-D02": "data show pairs.docx",
    "PF-D03": "data show empty.jsonl",
    "PF-D04": "data convert equal.jsonl out.jsonl",
    "PF-D05": "data show broken.jsonl",
    "PF-D06": "generate MODEL --prompts latin.txt",
    "PF-C00": "dpo --model MODEL --data pairs.jsonl --load-in-4bit",
    "PF-C01": "dpo --model MODEL --data pairs.jsonl --learnin-rate 1",
    "PF-C02": "dpo --model MODEL --data pairs.jsonl --learning-rate fast",
    "PF-C03": "dpo --model MODEL --data pairs.jsonl --lora-r 0",
    "PF-C04": "dpo --model MODEL --data pairs.jsonl --lora-alpha 4",
    "PF-C07": "dpo --model MODEL",
    "PF-C08": "dpo --model MODEL --data pairs.jsonl --optim nothing",
    "PF-C09": "dop",
    "PF-C12": "dpo --config list.yaml",
    "PF-F00": "data show nothere.jsonl",
    "PF-F01": "report nothere",
    "PF-F02": "dpo --model ./nothere --data pairs.jsonl",
    "PF-M05": "dpo --model folder --data pairs.jsonl",
    "PF-J02": "judge a.jsonl b.jsonl --judge openai --judge-model m --key-variable NO_SUCH_KEY",
    "PF-J01": "judge a.jsonl b.jsonl --judge openai --judge-model m --server http://127.0.0.1:9/v1",
}


@pytest.mark.parametrize("code", MISTAKES)
def test_a_mistake_ends_in_its_code(
    code: str, lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = "".join(json.dumps({"instruction": f"question {i}", "output": "x", "generator": "g"}) + "\n" for i in range(3))
    files = {
        "pairs.jsonl": json.dumps(PAIR) + "\n",
        "pairs.docx": "x",
        "empty.jsonl": "",
        "equal.jsonl": json.dumps(PAIR | {"rejected": PAIR["chosen"]}) + "\n",
        "broken.jsonl": '{"prompt": "a", "chosen": "b"',
        "list.yaml": "- a\n- b\n",
        "a.jsonl": answers,
        "b.jsonl": answers.replace('"x"', '"y"'),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    words = MISTAKES[code].replace("generate MODEL", "generate --model MODEL --output out.jsonl").replace("MODEL", str(lab_model)).split()
    assert main(words) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(rf"prefine: error: .+ \[{code}\]", line), line


def test_explain_says_what_a_code_means(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("PF-D01", "pf-d01", "d01", "[PF-D01]"):
        assert main(["explain", word]) == 0
        out = " ".join(capsys.readouterr().out.split())
        kind = KINDS["PF-D01"]
        assert all(" ".join(text.split()) in out for text in (kind.name, kind.meaning, kind.example, kind.fix))
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    assert all(code in out for code in KINDS)
    assert main(["explain", "PF-D91"]) == 2
    assert "did you mean 'PF-D0" in capsys.readouterr().err
