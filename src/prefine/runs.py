"""The run directory: its files, reading and writing them.

config.yaml        the resolved configuration, and the command that repeats it
environment.json   versions, machine, git state
data.json          sources, fingerprints, counts, what was dropped and why
metrics.jsonl      one line a logged step
events.jsonl       out-of-memory splits, resumes, warnings
checkpoints/       checkpoint-STEP folders
model/             the final adapter or model and its tokenizer
eval/NAME/         generations.jsonl, verdicts.jsonl, summary.json, held_out_pairs.jsonl; eval/final is written when training ends
eval/looks.jsonl   one line each time a judge looked at the run
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefine.errors import ConfigError, DataError, MissingFile, printable

HELD_OUT_PROMPTS = "held_out_prompts.jsonl"
"""Prompts that a run learnt nothing from, where it learns from prompts alone."""
HELD_OUT_PAIRS = "held_out_pairs.jsonl"
"""In an evaluation's folder: log-probs of each held-out pair's chosen and rejected response, before training and after."""
COMPLETE = "prefine_complete"
"""Written last into a checkpoint; one without it was cut short and is not resumed from."""


class RunDirectory:
    """One run's files under ``path``. Whole files are replaced atomically, lines appended."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run.

        Raises:
            MissingFile: no such folder, or it is not a run.
        """
        run = cls(path)
        if not (run.path / "config.yaml").exists():
            raise MissingFile(f"{path}: not a run directory (no config.yaml); give the --output-dir of a training run", code="PF-F01")
        return run

    @classmethod
    def create(cls, path: str | Path, resume: bool = False) -> RunDirectory:
        """A new run; refuses a folder that already holds one which began to train, unless resuming."""
        cls.check_free(path, resume)
        run = cls(path)
        _made.extend(folder for folder in (run.path, *run.path.parents) if not folder.exists())
        run.path.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def check_free(cls, path: str | Path, resume: bool = False) -> None:
        """Whether a run can be made there.

        Raises:
            ConfigError: it is a file, or holds a run that began to train and is not resumed.
        """
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise ConfigError(f"output_dir {path} is a file; give a folder")
        if (run.path / "config.yaml").exists() and run.began and not resume:
            raise ConfigError(f"output_dir {path} already holds a run; go on with --resume, or give another --output-dir", code="PF-C05")

    @property
    def began(self) -> bool:
        """Whether it holds anything that training made."""
        whole = any((self.path / name).exists() for name in ("metrics.jsonl", "model", "eval", "members"))
        return whole or (self.checkpoints.exists() and any(self.checkpoints.iterdir()))

    @property
    def model(self) -> Path:
        """The final model's folder."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def evaluation(self, name: str) -> Path:
        """The folder of one evaluation, made if need be."""
        folder = self.path / "eval" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_config(self, config: Mapping[str, Any], argv: list[str]) -> None:
        """Write ``config.yaml``; keys are those of flags and of ``--config`` files."""
        # A comment of one line: a line break or a control character in an argument would make the file unreadable.
        import yaml

        head = f"# repeat: prefine {printable(shlex.join(argv)).replace(chr(10), ' ')}\n"
        write_text(self.path / "config.yaml", head + yaml.safe_dump(dict(config), sort_keys=True, allow_unicode=True))

    def config(self) -> dict[str, Any]:
        """Read ``config.yaml``."""
        import yaml

        loaded = yaml.safe_load((self.path / "config.yaml").read_text())
        return dict(loaded)

    def beta(self) -> float:
        """The beta of the loss that trained it, the last where it changed as it went; 0.1 where it had none."""
        value = self.config().get("beta")
        return float((value[-1] if isinstance(value, list) and value else value) or 0.1)

    def command(self) -> str:
        """The command that made it, as ``config.yaml`` repeats it: dpo, ppo, ...; empty where it does not say."""
        words = (self.path / "config.yaml").read_text(encoding="utf-8").partition("\n")[0].split()
        return words[3] if words[:3] == ["#", "repeat:", "prefine"] and len(words) > 3 else ""

    def write_environment(self) -> None:
        """Write versions, machine and git state."""
        write_json(self.path / "environment.json", environment())

    def write_data(self, data: Mapping[str, Any]) -> None:
        """Write ``data.json``."""
        write_json(self.path / "data.json", data)

    def data(self) -> dict[str, Any]:
        """Read ``data.json``; empty where there is none yet."""
        path = self.path / "data.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Append a logged step."""
        append_json(self.path / "metrics.jsonl", line)

    def append_event(self, kind: str, **what: Any) -> None:
        """Append an event."""
        append_json(self.path / "events.jsonl", {"event": kind, **what})

    def add_look(self, name: str, summary: Mapping[str, Any]) -> int:
        """Record that the run was judged, in ``eval/looks.jsonl``; returns how often it was, by any judge on any prompts.

        The same evaluation of the same answers again, with the same result, is no new look.
        """
        path = self.path / "eval" / "looks.jsonl"
        look = {"evaluation": name} | {k: summary.get(k) for k in ("judge", "sentence", "repeat")}
        looks = self.looks()
        if summary.get("judge") is not None and look not in looks:
            append_json(path, look)
            looks.append(look)
        return len(looks)

    def looks(self) -> list[dict[str, Any]]:
        """What :meth:`add_look` recorded."""
        path = self.path / "eval" / "looks.jsonl"
        return list(read_jsonl(path)) if path.exists() else []

    def metrics(self) -> list[dict[str, Any]]:
        """All logged steps, in order."""
        path = self.path / "metrics.jsonl"
        return list(read_jsonl(path)) if path.exists() else []

    def forget_metrics_after(self, step: int) -> None:
        """Drop logged steps past a checkpoint that is resumed from; they will be logged again."""
        kept = [m for m in self.metrics() if m.get("step", 0) <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in kept))

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written whole."""
        whole = [p for p in self.checkpoints.glob("checkpoint-*") if (p / COMPLETE).exists()]
        return max(whole, key=lambda p: int(p.name.rsplit("-", 1)[1]), default=None)


_made: list[Path] = []
"""Folders that :meth:`RunDirectory.create` made in this process, each before its parents."""


def discard_unused() -> None:
    """Remove the run directories that this process made and never began to train in, with the parents made for them."""
    for folder in _made:
        if (folder / "config.yaml").exists() and not RunDirectory(folder).began:
            shutil.rmtree(folder)
        elif folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
    _made.clear()


def settings_that_differ(runs: Sequence[RunDirectory]) -> list[list[str]]:
    """A row a setting that the runs were told otherwise: its name, then each run's value, empty where it is not set."""
    configs = [run.config() for run in runs]
    keys = sorted({k for c in configs for k in c} - {"output_dir"})
    differing = [k for k in keys if any(c.get(k) != configs[0].get(k) for c in configs)]
    return [[key, *("" if c.get(key) is None else str(c[key]) for c in configs)] for key in differing]


def model_of(name: str) -> str:
    """A finished run's model where ``name`` is a run directory; any other folder or Hub id as it is."""
    return str(Path(name) / "model") if (Path(name) / "config.yaml").exists() else name


def models_of(name: str) -> list[str]:
    """As :func:`model_of`; all members where the run trained an ensemble."""
    folder = Path(model_of(name))
    members = sorted(folder.glob("member-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    return [str(m) for m in members] or [model_of(name)]


def write_text(path: Path, text: str) -> None:
    """Replace a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # A lone surrogate, which a tokenizer can make, becomes its escape: JSON reads it back, a page shows it.
    temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a JSON-lines file whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def append_json(path: Path, value: Mapping[str, Any]) -> None:
    """Append one line; one write call, so that a kill leaves at most one broken line."""
    with path.open("a") as stream:
        stream.write(json.dumps(value, default=str) + "\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines; a broken last line (a killed writer) is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: texts hold U+2028 and the like
    lines = lines[:-1] if not lines[-1] else lines
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise DataError(f"{path}, line {number}: not valid JSON ({error.msg})", code="PF-D05") from error


def environment() -> dict[str, Any]:
    """Versions of what computes, the machine, and the working folder's git commit."""
    import platform
    import subprocess
    from importlib import metadata

    names = ("prefine", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy", "bitsandbytes")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git here
        commit = ""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": versions,
        "git_commit": commit or None,
    }
