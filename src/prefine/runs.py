"""The run directory: its files, reading and writing them.

config.yaml        the resolved configuration, and the command that repeats it
environment.json   versions, machine, git state
data.json          sources, fingerprints, counts, what was dropped and why
metrics.jsonl      one line a logged step
events.jsonl       out-of-memory splits, resumes, warnings
checkpoints/       checkpoint-STEP folders, each with a manifest of its files
model/             the final adapter or model and its tokenizer
eval/NAME/         generations.jsonl, verdicts.jsonl, summary.json, held_out_pairs.jsonl or held_out_labels.jsonl;
                   eval/final is written when training ends
eval/looks.jsonl   one line each time a judge looked at the run
.lock              held while a process trains here
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import platform
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefine.checkpoints import newest, storing
from prefine.errors import ConfigError, DataError, MissingFile, PrefineError, StorageError, printable
from prefine.processes import is_first
from prefine.redaction import redact, redacted

HELD_OUT_PROMPTS = "held_out_prompts.jsonl"
"""Prompts that a run learnt nothing from, where it learns from prompts alone."""
HELD_OUT_PAIRS = "held_out_pairs.jsonl"
HELD_OUT_LABELS = "held_out_labels.jsonl"
"""In an evaluation's folder: log-probs of each held-out pair's chosen and rejected response, before training and after."""
LOCK = ".lock"
"""Held by the process that trains in the folder; it says who that is."""
NOT_FINITE = "not_finite"
"""Beside values that JSON has no word for, which are null there: what they are, by their place (a JSON pointer, RFC 6901)."""


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
        if not is_first():
            return Followed(path)
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
            StorageError: it cannot be written.
        """
        run = cls(path)
        if not is_first():  # which has made it by now, perhaps
            return
        if run.path.exists() and not run.path.is_dir():
            raise ConfigError(f"output_dir {path} is a file; give a folder")
        there = next(p for p in (run.path.absolute(), *run.path.absolute().parents) if p.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise StorageError(f"output_dir {path}: {there} cannot be written; give another --output-dir, or make it writable")
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
        write_text(self.path / "config.yaml", head + yaml.safe_dump(redacted(config), sort_keys=True, allow_unicode=True))

    def config(self) -> dict[str, Any]:
        """Read ``config.yaml``."""
        import yaml

        path = self.path / "config.yaml"
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{path}: damaged: not YAML ({' '.join(str(error).split())[:200]})") from error
        if not isinstance(loaded, dict):
            raise DataError(f"{path}: damaged: expected 'key: value' lines, found {type(loaded).__name__}")
        return loaded

    def beta(self) -> float:
        """The beta of the loss that trained it, the last where it changed as it went; 0.1 where it had none."""
        value = self.config().get("beta")
        return float((value[-1] if isinstance(value, list) and value else value) or 0.1)

    def command(self) -> str:
        """The command that made it, as ``config.yaml`` repeats it: dpo, ppo, ...; empty where it does not say."""
        words = (self.path / "config.yaml").read_text(encoding="utf-8", errors="replace").partition("\n")[0].split()
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
        with as_written(path):
            return dict(read_json(path)) if path.exists() else {}

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
        return read_log(self.path / "eval" / "looks.jsonl")

    def metrics(self) -> list[dict[str, Any]]:
        """All logged steps, in order."""
        return read_log(self.path / "metrics.jsonl")

    def events(self) -> list[dict[str, Any]]:
        """All events, in order."""
        return read_log(self.path / "events.jsonl")

    def forget_metrics_after(self, step: int) -> None:
        """Drop logged steps past a checkpoint that is resumed from; they will be logged again."""
        path = self.path / "metrics.jsonl"
        with as_written(path):
            kept = [m for m in self.metrics() if m.get("step", 0) <= step]
        write_jsonl(path, kept)

    def last_checkpoint(self, told: Callable[[str, list[str]], None] = lambda name, faults: None) -> Path | None:
        """The newest whole checkpoint, and None where there is none at all; :func:`prefine.checkpoints.newest` says the rest."""
        return newest(self.checkpoints, told)

    def lock(self) -> None:
        """Keep other processes from training here, until :func:`unlock` or until this process ends, however it ends.

        Raises:
            ConfigError: another process does; which, and on what machine.
        """
        path = self.path / LOCK
        if not is_first() or path in _locks:
            return
        with storing(f"{path}"):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = printable(os.read(handle, 200).decode("utf-8", "replace")).strip()
            os.close(handle)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ConfigError(
                    f"{self.path} is being trained in by another process ({holder}); wait until that ends, stop it, "
                    "or give another --output-dir",
                    code="PF-C13",
                ) from None
            return  # a disk that has no locks
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {platform.node()}\n".encode())
        _locks[path] = handle
        self._tidy()

    def _tidy(self) -> None:
        """Remove what :func:`write_text` had not written to its end when its process was killed."""
        for left in (*self.path.glob(".*.tmp"), *self.path.glob("eval/*/.*.tmp")):
            number = left.name.removesuffix(".tmp").rpartition(".")[2]
            if number.isdigit() and not _runs(int(number)):
                with suppress(OSError):
                    left.unlink()


class Followed(RunDirectory):
    """The run directory of a process that is not the first: it is read, and written by the first alone."""

    def write_config(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def write_environment(self) -> None:
        """Nothing."""

    def write_data(self, data: Mapping[str, Any]) -> None:
        """Nothing."""

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Nothing."""

    def append_event(self, kind: str, **what: Any) -> None:
        """Nothing."""


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


_locks: dict[Path, int] = {}
"""Open lock files of this process. A POSIX lock: the kernel drops it with its process, and children do not inherit it."""


def unlock() -> None:
    """Let go of all locks that :meth:`RunDirectory.lock` took in this process."""
    while _locks:
        os.close(_locks.popitem()[1])


_made: list[Path] = []
"""Folders that :meth:`RunDirectory.create` made in this process, each before its parents."""


def discard_unused() -> None:
    """Remove the run directories that this process made and never began to train in, with the parents made for them."""
    for folder in _made:
        if (folder / LOCK).exists() and not RunDirectory(folder).began:
            (folder / LOCK).unlink()
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
    """Replace a file whole or not at all; secrets are left out.

    Raises:
        StorageError: the disk took no more.
    """
    replace_file(path, redact(text))


def replace_file(path: Path, text: str) -> None:
    """Replace a file whole or not at all by a text from which secrets were left out already.

    Raises:
        StorageError: the disk took no more.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # A lone surrogate, which a tokenizer can make, becomes its escape: JSON reads it back, a page shows it.
    with storing(f"{path}"):
        try:
            with temporary.open("wb") as stream:
                stream.write(text.encode("utf-8", "backslashreplace"))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:  # Ctrl-C, too
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file whole or not at all."""
    write_text(path, to_json(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a JSON-lines file whole or not at all."""
    write_text(path, "".join(to_json(row, ensure_ascii=False) + "\n" for row in rows))


def append_json(path: Path, value: Mapping[str, Any]) -> None:
    """Append one line; one write call, so that a kill leaves at most one torn line, which the next does not join.

    Raises:
        StorageError: the disk took no more.
    """
    line = redact(to_json(value)).encode() + b"\n"
    with storing(f"{path}"), path.open("ab+", buffering=0) as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            line = line if stream.read(1) == b"\n" else b"\n" + line
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def to_json(value: Any, marked: bool = True, **how: Any) -> str:
    """A value as strict JSON, as :func:`strict` has it; what JSON does not know is written as text.

    Args:
        marked: whether it says where a NaN or an infinity stood; people's own rows get a null and no key beside.
    """
    try:
        return json.dumps(value, allow_nan=False, default=str, **how)
    except ValueError:
        plain = strict(value)
        if not marked and isinstance(plain, dict):
            plain.pop(NOT_FINITE, None)
        return json.dumps(plain, allow_nan=False, default=str, **how)


def strict(value: Any) -> Any:
    """A value that JSON can hold: NaN and infinities are null; a mapping says under ``not_finite`` what and where they are."""
    found: dict[str, str] = {}

    def plain(part: Any, at: str) -> Any:
        if isinstance(part, float) and not math.isfinite(part):
            found[at] = "NaN" if math.isnan(part) else "Infinity" if part > 0 else "-Infinity"
            return None
        if isinstance(part, Mapping):
            return {k: plain(v, f"{at}/{str(k).replace('~', '~0').replace('/', '~1')}") for k, v in part.items()}
        return [plain(v, f"{at}/{i}") for i, v in enumerate(part)] if isinstance(part, list | tuple) else part

    out = plain(value, "")
    return out | {NOT_FINITE: found} if found and isinstance(out, dict) else out


def unstrict(value: Any) -> Any:
    """What :func:`strict` was given, of what it gave."""
    if not isinstance(value, dict) or not isinstance(value.get(NOT_FINITE), dict):
        return value
    for at, told in value.pop(NOT_FINITE).items():
        *path, last = (part.replace("~1", "/").replace("~0", "~") for part in at.split("/")[1:])
        part: Any = value
        for name in path:
            part = part[int(name) if isinstance(part, list) else name]
        part[int(last) if isinstance(part, list) else last] = float(told)
    return value


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote.

    Raises:
        DataError: it is not whole.
    """
    try:
        return unstrict(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({getattr(error, 'msg', error)}); it was altered since Prefine wrote it") from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines; a broken last line (a killed writer) is left out.

    Raises:
        DataError: another line is broken, or none of an object.
    """
    lines = path.read_bytes().split(b"\n")  # not splitlines: texts hold U+2028 and the like
    lines = lines[:-1] if not lines[-1] else lines
    for number, line in enumerate(lines, 1):
        try:
            row = unstrict(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise DataError(f"{path}, line {number}: not valid JSON ({getattr(error, 'msg', error)})", code="PF-D05") from error
            continue
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
        yield row


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that is appended to; torn ones, of a killed writer or a full disk, are left out and warned of once."""
    out, torn = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], 1):
        try:
            found = unstrict(json.loads(line))
            if not isinstance(found, dict):
                raise ValueError("a line is a mapping")
            out.append(found)
        except (ValueError, LookupError, TypeError, RecursionError):
            torn += [number] if line.strip(b"\0 \r") else []
    if torn and (path, tuple(torn)) not in _told:
        _told.add((path, tuple(torn)))
        listed = f"line{'s' * (len(torn) > 1)} {', '.join(map(str, torn[:5]))}{' and more' * (len(torn) > 5)}"
        warnings.warn(
            f"{path}: {listed} cannot be read, as where a writer was killed, and {'are' if torn[1:] else 'is'} left out", stacklevel=3
        )
    return out


_told: set[tuple[Path, tuple[int, ...]]] = set()
"""Files of which torn lines were told, with the lines."""


@contextmanager
def as_written(*paths: Path) -> Iterator[None]:
    """A block that reads what a run wrote: content of another form is an error of the user's, who may have changed it.

    Raises:
        DataError: in place of what reading such content raises.
    """
    try:
        yield
    except (PrefineError, OSError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError, ArithmeticError) as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        where = " or ".join(map(str, paths))
        raise DataError(f"{where}: damaged, or not written by Prefine ({told}; --traceback shows where)") from error


def environment() -> dict[str, Any]:
    """Versions of what computes, the machine, and the working folder's git commit; what cannot be found out is left out."""
    import subprocess
    from importlib import metadata

    names = ("prefine", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy", "bitsandbytes")
    out: dict[str, Any] = {"python": sys.version.split()[0], "versions": {}}
    for name in names:
        with suppress(Exception):  # nothing that only describes may stop a run
            out["versions"][name] = metadata.version(name)
    with suppress(Exception):
        out["platform"] = platform.platform()
    out["cpu_count"] = os.cpu_count()
    commit = ""
    with suppress(Exception):
        told = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=False, timeout=10)
        commit = told.stdout.decode("ascii", "replace").strip()
    return out | {"git_commit": commit or None}
