"""What the documentation shows runs: every command and every piece of Python of README.md, docs and the like, or a reason stands before it.

A page is one story: its blocks run in order, in one folder, and Python keeps its names. In that folder lie small files by the names
that pages use (``files``), Hub ids are folders with a tiny model (``MODELS``) or a few rows (``DATA_SETS``), and servers are one on
loopback. A run that a page takes for granted (``runs/first``) is there. What would take long is made short by ``SHORT``. A block whose
first line is a comment with a file's name is written to that file; YAML that begins with ``# prefine COMMAND`` is run by that command.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import prefine
from judge_server import Misbehaving, serving
from page_blocks import SHELL, Block, blocks, commands
from prefine.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [p for p in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md") if (ROOT / p).exists()]
PAGES += sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))
MODELS = (
    *("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-0.6B"),
    *("HuggingFaceTB/SmolLM2-135M-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "BASE", "MODEL", "M"),
)
DATA_SETS = (
    *("trl-lib/ultrafeedback_binarized", "Anthropic/hh-rlhf", "HuggingFaceH4/ultrafeedback_binarized"),
    "fozziethebeat/alpaca_messages_2k_dpo_test",
)
SHORT: dict[str, dict[str, Any]] = {
    **{name: {"max_steps": 2, "logging_steps": 1} for name in ("dpo", "kto", "reward", "sft", "tune")},
    **{name: {"max_steps": 2, "response_length": 4} for name in ("ppo", "online_dpo")},
    **{name: {"max_new_tokens": 4} for name in ("eval", "generate", "chat", "evaluate")},
    **{name: {"max_new_tokens": 4, "keep_cut": True} for name in ("pairs", "make_pairs")},
    "demo": {"quick": True},
    "lab": {"quick": True},
}
"""What is given to a command, or to a function of the package, unless the page says something else."""
STAND_INS = {"--judge ...": "--judge fake", "http://127.0.0.1:8000/v1": "{server}", "http://localhost:8000/v1": "{server}"}
ELSEWHERE = {"python examples/": ROOT, "python benchmarks/": ROOT, "python docs/": ROOT}
"""Scripts of the repository: that they are there is looked at here, that they run by other tests."""
RUN_NAME = re.compile(r"(?<![\w./-])runs/([\w-]+)")
OUTPUT = re.compile(r"output[-_]dir[=:\s]*[\"']?$")


def all_blocks() -> dict[str, list[Block]]:
    """Pages with code -> their blocks."""
    found = {page: blocks((ROOT / page).read_text(encoding="utf-8")) for page in PAGES}
    return {page: code for page, code in found.items() if code}


def files(folder: Path) -> dict[str, str]:
    """Small files by the names that pages use."""
    pairs = (ROOT / "examples" / "pairs.jsonl").read_text()
    rows = [json.loads(line) for line in pairs.splitlines()]
    prompts = [row["prompt"][0]["content"] for row in rows]
    chats = "".join(json.dumps({"messages": row["prompt"] + row["chosen"]}) + "\n" for row in rows)
    sums = "".join(json.dumps({"q": f"is {i} even", "label": i % 2}) + "\n" for i in range(6))
    task = (
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/sums.jsonl}}}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: ["yes", "no"]\ndoc_to_target: label\n'
    )
    found = {
        **{
            "pairs.jsonl": pairs,
            "train.jsonl": pairs,
            "more.jsonl": pairs,
            "chats.jsonl": chats,
            "prompts.txt": "\n".join(prompts[:6]) + "\n",
        },
        **{"other.txt": "Water the basil when the soil is dry. " * 150, "sums.jsonl": sums, "sums.yaml": task},
        **{"judge.yaml": "judge: python\nfunction: own.py:score\n", "own.py": "def score(prompt, response):\n    return len(response)\n"},
    }
    found["feedback.json"] = json.dumps(
        [{"prompt": row["prompt"], "response": row[side], "label": side == "chosen"} for row in rows for side in ("chosen", "rejected")]
    )
    talks = [
        {"conversations": [{"from": "human", "value": row["prompt"][0]["content"]}]}
        | {side: {"from": "gpt", "value": row[side][0]["content"]} for side in ("chosen", "rejected")}
        for row in rows
    ]
    found["data/dpo_en_demo.json"] = json.dumps(talks)
    for name in ("annotations.json", "others.json"):
        verdicts = [{"instruction": f"q{i}", "generator_1": "base", "generator_2": name, "preference": 1 + i % 2} for i in range(20)]
        found[name] = json.dumps(verdicts)
    return found


def as_published(hub_id: str, pairs: str) -> str:
    """Pairs with the columns that a data set of the Hub has."""
    rows = [json.loads(line) for line in pairs.splitlines()]
    if hub_id == "fozziethebeat/alpaca_messages_2k_dpo_test":
        rows = [{"conversation": r["prompt"], "chosen": r["chosen"][-1], "rejected": r["rejected"][-1]} for r in rows]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def finished(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs that a page may take for granted, by kind."""
    folder = tmp_path_factory.mktemp("finished")
    data = str(ROOT / "examples" / "pairs.jsonl")
    for kind in ("dpo", "reward"):
        words = ["--model", str(chat_model), "--data", data, "--output-dir", str(folder / kind), "--lora-r", "4", "--max-steps", "2"]
        assert main([kind, *words]) == 0
    return {kind: folder / kind for kind in ("dpo", "reward")}


def judged(body: dict[str, Any]) -> str:
    """What the server says: the first shown is better; 5 of 10 where it is asked for a rating."""
    asked = json.dumps(body)
    if body.get("logprobs"):
        return "A:0.7"
    return "[[A]]" if "[[A]]" in asked or '"A"' in asked else "[[5]]"


class Page:
    """A page's sandbox."""

    def __init__(self, name: str, folder: Path, finished: dict[str, Path], server: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.folder, self.finished, self.server, self.monkeypatch = name, folder, finished, server, monkeypatch
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, block: Block) -> None:
        """Run a block."""
        text = block.text
        for shown, instead in STAND_INS.items():
            text = text.replace(shown, instead.format(server=self.server.url))
        self.grant_runs(text)
        where = f"{self.name}, line {block.line}"
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if block.language in SHELL:
            lines = commands(text)
            for place, line in enumerate(lines):
                self.shell(line, block.exits if place == len(lines) - 1 else 0, where)
        elif block.language == "python":
            self.python(text, block)
        elif block.language == "yaml":
            self.yaml(text, block.exits, where)
        else:
            read_json(text)

    def grant_runs(self, text: str) -> None:
        """Put finished runs where a block takes them for granted."""
        for found in RUN_NAME.finditer(text):
            path = self.folder / "runs" / found.group(1)
            if not path.exists() and not OUTPUT.search(text[: found.start()]):
                made = {m.group(1) for m in RUN_NAME.finditer(text) if OUTPUT.search(text[: m.start()])}
                if found.group(1) not in made:
                    shutil.copytree(self.finished["reward" if "reward" in found.group(1) else "dpo"], path)

    def shell(self, line: str, exits: int, where: str) -> None:
        """Run a command: in this process where it is Prefine's alone."""
        line = line.replace(".venv/bin/", "")
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            for word in words[1:]:
                self.monkeypatch.setenv(*word.split("=", 1))
            return
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{where}: no target {words[1]}"
            return
        for start, root in ELSEWHERE.items():
            if line.startswith(start):
                assert (root / words[1]).exists(), f"{where}: {words[1]} is not there"
                return
        if re.search(r"[|<>;&`]|\$\(", line.split(" # ")[0]) or "=" in words[0]:
            done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True, env=self.with_prefine())
            assert done.returncode == exits, f"{where}: {line}\n{done.stdout}{done.stderr}"
            return
        assert words[0] == "prefine", f"{where}: {line}: no rule runs this; put <!-- not run: reason --> before the block"
        self.prefine(words[1:], exits, where)

    def prefine(self, words: list[str], exits: int, where: str) -> None:
        """Run one of Prefine's commands."""
        given = {word.split("=")[0].removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
        short = (
            SHORT.get(words[0].replace("-", "_"), {}) if words and not given & {"help", "help_all", "print_config", "json_schema"} else {}
        )
        for key, value in short.items():
            if key not in given:
                words = [*words, f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
        self.monkeypatch.setattr("sys.stdin", io.StringIO("Tell me about owls.\n"))
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        # nothing that a tiny model says is better, which "--require" says by its exit code
        allowed = {0, 1} if "--require" in words and not exits else {exits}
        assert code in allowed, f"{where}: prefine {shlex.join(words)} ended with {code}"

    def python(self, text: str, block: Block) -> None:
        """Run Python; a mistake is shown with the page's own line."""
        if block.file:
            return  # it is imported by name
        try:
            exec(compile("\n" * (block.line - 1) + text, str(ROOT / self.name), "exec"), self.names)
        except Exception:
            pytest.fail(f"{self.name}, line {block.line}:\n{text}\n{traceback.format_exc()}")

    def yaml(self, text: str, exits: int, where: str) -> None:
        """Read YAML; run it where its first line says by which command."""
        assert yaml.safe_load(text) is not None, where
        first = text.splitlines()[0].lstrip("# ")
        if first.startswith("prefine ") and "--config" in first:
            words = shlex.split(first, comments=True)
            path = self.folder / words[words.index("--config") + 1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.prefine(words[1:], exits, where)

    def with_prefine(self) -> dict[str, str]:
        """An environment whose ``prefine`` and ``python`` are those under test."""
        place = self.folder / ".bin"
        place.mkdir(exist_ok=True)
        for name, rest in (("prefine", "-m prefine.cli "), ("python", "")):
            script = place / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {rest}"$@"\n')
            script.chmod(0o755)
        return os.environ | {"PATH": f"{place}:{os.environ['PATH']}"}


def read_json(text: str) -> None:
    """JSON, or JSON Lines."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        for line in text.splitlines():
            json.loads(line)


@contextmanager
def shortened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package's functions with what makes them short."""

    def short(function: Any, defaults: dict[str, Any]) -> Any:
        return lambda *args, **given: function(*args, **defaults | given)

    with monkeypatch.context() as patch:
        for name, defaults in SHORT.items():
            if name in prefine.__all__:
                patch.setattr(prefine, name, short(getattr(prefine, name), defaults))
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", all_blocks())
@pytest.mark.long
def test_what_a_page_shows_runs(
    name: str, chat_model: Path, finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, text in files(tmp_path).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    for hub_id in MODELS:
        (tmp_path / hub_id).parent.mkdir(exist_ok=True)
        (tmp_path / hub_id).symlink_to(chat_model)
    for hub_id in DATA_SETS:
        (tmp_path / hub_id).mkdir(parents=True)
        for part in ("train", "test"):
            (tmp_path / hub_id / f"{part}.jsonl").write_text(as_published(hub_id, (tmp_path / "pairs.jsonl").read_text()))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with serving(judged) as server, shortened(monkeypatch):
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        page = Page(name, tmp_path, finished, server, monkeypatch)
        for block in all_blocks()[name]:
            if block.not_run is None:
                page.run(block)


def test_a_reason_is_one() -> None:
    bare = [f"{page}, line {b.line}" for page, code in all_blocks().items() for b in code if b.not_run is not None and len(b.not_run) < 5]
    assert not bare, "say why a block is not run"


def test_the_readme_has_its_commands() -> None:
    told = [line for block in all_blocks()["README.md"] if block.language in SHELL for line in commands(block.text)]
    assert sum("prefine " in line for line in told) >= 5


def test_blocks_are_found() -> None:
    page = """
Text with `prefine dpo` in it.

    prefine data show pairs.jsonl
    prefine dpo --model M \\
        --data D

The tree:

    src/prefine   what it is

<!-- not run: a server -->
```bash
vllm serve merged
```

<!-- exits with 2 -->
```console
$ prefine dpo --lora-alpha 8
prefine: error: would be ignored
$ prefine data show   # nothing
```

```python
x = 1
```

```
usage: prefine COMMAND
```

```yaml
# judge.yaml
judge: exact
```
"""
    found = blocks(page)
    assert [b.language for b in found] == ["bash", "bash", "console", "python", "yaml"]
    assert commands(found[0].text) == ["prefine data show pairs.jsonl", "prefine dpo --model M --data D"]
    assert found[1].not_run == "a server"
    assert found[2].exits == 2
    assert commands(found[2].text) == ["prefine dpo --lora-alpha 8", "prefine data show   # nothing"]
    assert found[3].line == page[: page.index("x = 1")].count("\n") + 1
    assert found[4].file == "judge.yaml"


def test_what_is_wrong_on_a_page_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(judged) as server:
        page = Page("page.md", tmp_path, {}, server, monkeypatch)
        for language, text, message in (
            ("bash", "prefine data shw pairs.jsonl\n", "ended with 2"),
            ("bash", "prefine data show nowhere.jsonl\n", "ended with 2"),
            ("bash", "make nothing\n", "no target"),
            ("bash", "curl somewhere\n", "no rule runs this"),
            ("bash", "prefine --version | grep no-such-version\n", "line 7"),
            ("python", "import prefine as pf\npf.no_such_name\n", "page.md, line 7"),
            ("json", "{'a': 1}\n", "property name"),
        ):
            with pytest.raises((AssertionError, pytest.fail.Exception, json.JSONDecodeError), match=message):
                page.run(Block(language, text, 7))
