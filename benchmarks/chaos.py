"""An hour of chaos: runs that one bad thing happens to at a random moment, and that go on as their messages say.

    python benchmarks/chaos.py --minutes 60 --seed 0       # as root, on Linux: full and read-only disks are mounts
    python benchmarks/chaos.py --minutes 5 --only two torn-metrics

A trial is a tiny run of a real command, in a process forked from one that has only imported the libraries (every tenth is a fresh one).
It ends well where every process ended in time, with no traceback and no error but one sentence; where going on gave the losses, the
weights and the verdict of the run that was left alone, with each step logged once; where the pages can be made; and where nothing is left
lying about. After a sentence: the command refused with one, and what it asks for led there. From the start: all checkpoints were taken
away. Nothing happened: the run had ended before, or had nothing of the kind.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kill_resume import losses, materials, weights

STEPS, SAVE_EVERY = 16, 3
MOST_SECONDS = 180.0
"""That a process may take, which takes a few seconds where it is left alone."""
METHODS = ("dpo", "dpo-lora", "dpo-judged", "sft", "sft-lora", "reward", "reward-lora", "ppo", "ppo-lora", "ppo-judged", "online-dpo")
JUDGED = ("dpo-judged", "ppo-judged")
NOTHING = "nothing happened"
SHORT = re.compile(r"prefine: error: .*\[PF-[A-Z]\d\d\]")


# ---- processes


def begin(words: list[str], log: Path, cache: Path, fresh: bool = False, jumps: float = 0.0) -> int:
    """Start a command; returns its process id. Told by SIGUSR1, its clock jumps by so many seconds."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["PREFINE_CACHE"] = str(cache)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background takes away
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup takes away
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "prefine.cli", *words])
        import numpy
        import torch

        from prefine.cli import main

        for seeded in (random, numpy.random):
            seeded.seed(None)
        torch.seed()
        faulthandler.register(signal.SIGUSR2)
        if jumps:
            _clock_that_jumps(jumps)
        sys.argv = ["prefine", *words]
        code = main()
        sys.stdout.flush()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _clock_that_jumps(by: float) -> None:
    real, real_ns, ahead = time.time, time.time_ns, [0.0]
    time.time = lambda: real() + ahead[0]
    time.time_ns = lambda: real_ns() + int(ahead[0] * 1e9)
    signal.signal(signal.SIGUSR1, lambda *_: ahead.__setitem__(0, by))


def ended(child: int, most: float = MOST_SECONDS) -> int | None:
    """Wait for a process; its exit code, None for one that hung and was killed."""
    until = time.monotonic() + most
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGUSR2)  # where it hangs, into its log
    time.sleep(1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


# ---- what is trained


def command(method: str, made: Path, run: Path, cache: Path) -> list[str]:
    """The words of a run that logs each step."""
    name, _, kind = method.partition("-") if not method.startswith("online") else (method, "", "")
    sampled = name in ("ppo", "online-dpo")
    data = made / ("prompts.jsonl" if sampled else "pairs.jsonl")
    words: list[Any] = [name, "--model", made / "model", "--data", data, "--output-dir", run, "--max-steps", STEPS, "--logging-steps", 1]
    words += ["--save-steps", SAVE_EVERY, "--save-total-limit", 2, "--per-device-train-batch-size", 8, "--learning-rate", "1e-3"]
    words += ["--seed", 3, *(["--lora-r", 4] if kind == "lora" else [])]
    if sampled:
        words += ["--response-length", 8, "--num-samples", 2, "--reward-function", f"{made / 'length.py'}:shorter"]
        words += ["--num-mini-batches", 2] if name == "ppo" else []
        words += [] if kind == "judged" else ["--eval-fraction", 0]
    elif name == "dpo":
        judged = ["--precompute-ref-log-probs", "--reference-cache-dir", cache / "reference", "--final-judge", made / "judge.yaml"]
        words += judged if kind == "judged" else ["--final-eval", "off"]
    return [str(w) for w in words]


class _Judge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        """A verdict that the question's text decides."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verdict = "AB"[hashlib.sha256(body["messages"][-1]["content"].encode()).digest()[0] % 2]
        said = json.dumps({"reason": "so", "verdict": verdict}) if "response_format" in body else f"[[{verdict}]]"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        out = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice], "usage": usage}
        raw = json.dumps(out).encode()
        time.sleep(0.02)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextlib.contextmanager
def judge_server() -> Iterator[str]:
    """A judging server in a process of its own; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # of clients that were killed
    child = os.fork()
    if not child:
        server.serve_forever()
        os._exit(0)
    address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.server_close()
    try:
        yield address
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def verdict(run: Path) -> dict[str, Any]:
    """What the run's closing evaluation found, without what it took and where it lies."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in (run / "eval" / "final").glob("*.json*") if p.suffix in (".json", ".jsonl") and p.name[0] != "."):
        text = path.read_text(encoding="utf-8").replace(str(run), "RUN")
        rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
        if path.name.startswith("answers-"):
            rows.sort(key=lambda row: json.dumps(row, sort_keys=True))
        found[path.name] = [_without(row, ("seconds", "reused", "generated", "cached", "run", "looks", "look")) for row in rows]
    return found


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, names) for k, v in value.items() if not any(n == k or k.endswith(f"_{n}") for n in names)}
    return [_without(v, names) for v in value] if isinstance(value, list) else value


# ---- disks


def mount(place: Path, size: int) -> None:
    """A disk of so many bytes."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=True)


def resize(place: Path, size: int) -> None:
    """Make a disk larger."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def cover(place: Path) -> None:
    """Make a folder read-only for whoever comes by its path, though files in it are open for writing."""
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)


def unmount(place: Path) -> None:
    """Take the topmost mount away."""
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


# ---- a trial


@dataclass
class Whole:
    """A run that was left alone."""

    losses: dict[int, float]
    weights: bytes
    verdict: dict[str, Any]
    seconds: float
    size: int


@dataclass
class Trial:
    """One run that something bad happens to.

    Attributes:
        said: sentences that the user was told; faults: what should not be; lost: all checkpoints were taken away.
    """

    kind: str
    method: str
    folder: Path
    made: Path
    whole: Whole
    draw: random.Random
    fresh: bool
    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    where: str = ""
    lost: bool = False
    count: int = 0
    mends: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run, self.cache = self.folder / "disk" / "run", self.folder / "cache"
        (self.folder / "disk").mkdir(parents=True)
        self.cache.mkdir()
        self.words = command(self.method, self.made, self.run, self.cache)

    # -- processes

    def log(self) -> Path:
        self.count += 1
        return self.folder / f"{self.count:02}.log"

    def start(self, words: list[str] | None = None, jumps: float = 0.0) -> tuple[int, Path]:
        log = self.log()
        log.write_text(f"$ prefine {shlex.join(words or self.words)}\n")
        return begin(words or self.words, log, self.cache, self.fresh and not jumps, jumps), log

    def close(self, child: int, log: Path, allowed: tuple[int, ...], what: str) -> int | None:
        """Wait for a process and look at how it ended."""
        code, text = ended(child), log.read_text(errors="replace")
        if code is None:
            self.faults.append(f"{what}: hung ({log.name})")
            return code
        sentences = [line for line in text.splitlines() if "prefine: error:" in line]
        if "Traceback (most recent call last)" in text:
            self.faults.append(f"{what}: traceback, {text.strip().splitlines()[-1][:160]} ({log.name})")
        elif code not in allowed:
            self.faults.append(f"{what}: exit {code} ({log.name})")
        if code == 2:
            if len(sentences) != 1 or not SHORT.search(text.replace("\n", " ")):
                self.faults.append(f"{what}: exit 2 with {len(sentences)} sentences ({log.name})")
            self.said += [s.partition("prefine: error: ")[2] for s in sentences]
        return code

    def lines(self) -> int:
        path = self.run / "metrics.jsonl"
        with contextlib.suppress(OSError):
            return path.read_bytes().count(b"\n")
        return 0

    def at(self, child: int, moment: str) -> bool:
        """Wait for a moment of a running process; whether it still runs then."""
        draw, saving = self.draw, self.run / "checkpoints" / ".saving"
        step, delay = draw.randint(max(1, min(self.lines(), STEPS - 1)), STEPS), draw.uniform(0, 0.1)
        saves, seen, was = draw.randint(1, 4), 0, False
        if moment == "any":
            moment = draw.choice(("loading", "training", "training", "training", "saving", "verdict", "clock"))
        since, wait = time.monotonic(), draw.uniform(0, self.whole.seconds)
        while True:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                self.where = NOTHING
                return False
            if time.monotonic() - since > MOST_SECONDS:
                self.where = "waited too long"
                return True
            if moment == "loading":
                time.sleep(draw.uniform(0, min(0.6, self.whole.seconds / 4)) * (8 if self.fresh else 1))
                break
            if moment == "training" and self.lines() >= step:
                time.sleep(delay)
                break
            if moment == "clock" and time.monotonic() - since > wait:
                break
            if moment == "verdict" and (self.run / "model").exists():
                time.sleep(draw.uniform(0, 1.0) if self.method in JUDGED else delay)
                break
            if moment.endswith(".sqlite") and (self.cache / moment).exists() and (self.cache / moment).stat().st_size:
                time.sleep(draw.uniform(0, 0.6))
                break
            if moment == "saving":
                now = saving.exists()
                seen, was = seen + (now and not was), now
                if seen >= saves:
                    time.sleep(draw.uniform(0, 0.03))
                    break
            time.sleep(0.001)
        self.where = self.place()
        return True

    def place(self) -> str:
        if not (self.run / ".lock").exists():
            return "loading"
        if (self.run / "model").exists():
            return "after training"
        if (self.run / "checkpoints" / ".saving").exists():
            return "saving"
        return "training" if self.lines() else "starting"

    def checkpoints(self) -> list[Path]:
        """Newest first."""
        found = [p for p in (self.run / "checkpoints").glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
        return sorted(found, key=lambda p: -int(p.name.partition("-")[2]))

    def stop_somewhere(self, moment: str = "any", number: int = signal.SIGKILL, words: list[str] | None = None) -> None:
        """Start the run and end it at a moment."""
        child, log = self.start(words)
        if self.at(child, moment):
            os.kill(child, number)
        self.close(child, log, (0, -signal.SIGKILL, 75, 130), f"stopped while {self.where}")

    def stop_with_checkpoints(self) -> None:
        """Start the run and kill it once there are two checkpoints."""
        child, log = self.start()
        wait = self.draw.randint(2 * SAVE_EVERY + 1, STEPS)
        while len(self.checkpoints()) < 2 or self.lines() < wait:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        self.close(child, log, (0, -signal.SIGKILL), "stopped with checkpoints")
        shutil.rmtree(self.run / "checkpoints" / ".saving", ignore_errors=True)

    # -- going on, as a user

    def go_on(self) -> None:
        """Give the command that was named, or ``--resume``, until the run is done."""
        for _ in range(6):
            text = (self.folder / f"{self.count:02}.log").read_text(errors="replace")
            self.pages(after=False)
            for mend in self.mends:
                mend()
            self.mends.clear()
            named = re.findall(r"go on with: prefine (.*?)(?: \[PF-\w+\])?$", text, re.MULTILINE)
            resume = self.draw.choice((["--resume"], ["--resume", "auto"]))
            words = shlex.split(named[-1]) if named else [*self.words, *resume]
            if [w for w in words if w not in ("--resume", "auto")] != self.words:
                self.faults.append(f"the command that is named is another: {named[-1]}")
                words = [*self.words, "--resume"]
            if "To start over, remove that folder" in text:
                self.lost = True
                shutil.rmtree(self.run / "checkpoints")
            whole = [p for p in self.checkpoints() if p.name not in self.touched and (p / "prefine_manifest.json").exists()]
            child, log = self.start(words)
            code = self.close(child, log, (0, 2, 75), "going on")
            text = log.read_text(errors="replace")
            began = re.search(r"resuming from step (\d+)", text)
            if code in (0, 75) and whole and (began is None or int(began[1]) < int(whole[0].name.partition("-")[2])):
                self.faults.append(f"went on from {began and began[1]}, not from {whole[0].name} ({log.name})")
            if code == 0 and not whole and self.run.exists() and began is None and "starting at the beginning" not in text:
                self.faults.append(f"does not say where it starts ({log.name})")
            if code == 0 or code is None or self.faults:
                return
        self.faults.append("no end in six attempts")

    def pages(self, after: bool = True) -> None:
        """The page and the doctor work, or say why not."""
        if not after and self.draw.random() < 0.5:
            return
        for name in ("report", "doctor"):
            child, log = self.start([name, str(self.run)])
            kept = self.said[:]
            self.close(child, log, (0,) if after else (0, 2), name)
            self.said = kept
            if not after:  # the message that counts is that of the run
                log.rename(log.with_name(f"{log.stem}-{name}.txt"))
                self.count -= 1

    def check(self) -> None:
        """Is all as in the run that was left alone?"""
        if self.faults:
            return
        whole = self.whole
        try:
            ours = losses(self.run)
            for line in (self.run / "metrics.jsonl").read_text().splitlines():
                json.loads(line, parse_constant=_not_strict)
        except (OSError, ValueError) as error:
            self.faults.append(f"metrics.jsonl: {error}")
            return
        logged = [m["step"] for m in map(json.loads, (self.run / "metrics.jsonl").read_text().splitlines()) if "loss" in m]
        if logged != sorted(set(logged)):
            self.faults.append(f"steps logged twice: {logged}")
        gap = max((abs(ours[s] - v) / max(1e-12, abs(v)) for s, v in whole.losses.items() if s in ours), default=1.0)
        missing = whole.losses.keys() - ours.keys()
        if self.kind == "torn-metrics" and len(missing) == 1 and any("cannot be read" in p.read_text() for p in self.folder.glob("*.log")):
            self.said.append(f"metrics.jsonl: a line cannot be read, and is left out: step {missing}")
            missing = set()
        if missing or ours.keys() - whole.losses.keys() or gap > 1e-6:
            self.faults.append(f"losses differ by {gap:.1e}, steps {sorted(ours.keys() ^ whole.losses.keys())}")
        if weights(self.run) != whole.weights:
            self.faults.append("weights differ")
        if (found := verdict(self.run)) != whole.verdict:
            names = [n for n in found.keys() | whole.verdict.keys() if found.get(n) != whole.verdict.get(n)]
            self.faults.append(f"the verdict differs: {', '.join(sorted(names))}")
        from prefine.runs import RunDirectory

        with warnings.catch_warnings(record=True):
            RunDirectory(self.run).events()
        roots = (self.run, self.cache) if self.count else ()
        left = [p for root in roots for p in root.rglob("*") if p.name in (".saving", "core") or ".tmp" in p.name or p.suffix == ".part"]
        if left:
            self.faults.append(f"left lying about: {', '.join(str(p.relative_to(self.folder)) for p in left)}")
        names = sorted(p.name for p in (self.run / "checkpoints").iterdir())
        if not {f"checkpoint-{STEPS}"} <= set(names):
            self.faults.append(f"checkpoints {', '.join(names)}")


def _not_strict(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def spoil(path: Path, draw: random.Random, how: str = "") -> str:
    """Flip a byte of a file, cut it or remove it."""
    how = how or draw.choice(("flip", "flip", "cut", "empty", "gone"))
    content = bytearray(path.read_bytes())
    if how == "flip" and content:
        place = draw.randrange(len(content))
        content[place] ^= draw.randrange(1, 256)
        path.write_bytes(content)
        return f"byte {place} of {path.name} flipped"
    if how == "gone":
        path.unlink()
        return f"{path.name} removed"
    path.write_bytes(content[: draw.randrange(len(content)) if how == "cut" and content else 0])
    return f"{path.name} cut"


# ---- what happens


def kill(t: Trial) -> None:
    """kill -9, some of them twice."""
    t.stop_somewhere()
    if t.draw.random() < 0.3:
        first = t.where
        t.stop_somewhere(words=[*t.words, "--resume"])
        t.where = f"{first}, then {t.where}"


def kill_saving(t: Trial) -> None:
    """kill -9 inside saving."""
    t.stop_somewhere("saving")


def kill_verdict(t: Trial) -> None:
    """kill -9 while the verdict is sought."""
    t.stop_somewhere("verdict")


def _signalled(t: Trial, moment: str, number: int, codes: tuple[int, ...]) -> None:
    child, log = t.start()
    if t.at(child, moment):
        os.kill(child, number)
        if number == signal.SIGINT and t.draw.random() < 0.3:
            time.sleep(t.draw.uniform(0, 0.3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
    codes = (*codes, -number) if t.fresh else codes  # before Python itself listens
    code = t.close(child, log, (0, *codes), f"{signal.Signals(number).name} while {t.where}")
    if code is not None and code < 0:
        t.where += f", ended by the signal ({code})"


def term(t: Trial) -> None:
    """SIGTERM while it trains."""
    _signalled(t, "training", signal.SIGTERM, (75, -signal.SIGTERM))


def term_loading(t: Trial) -> None:
    """SIGTERM while the model is loading."""
    _signalled(t, "loading", signal.SIGTERM, (75, -signal.SIGTERM))


def term_verdict(t: Trial) -> None:
    """SIGTERM while the verdict is sought."""
    _signalled(t, "verdict", signal.SIGTERM, (75, -signal.SIGTERM))


def hup(t: Trial) -> None:
    """SIGHUP at any moment."""
    _signalled(t, "any", signal.SIGHUP, (75, -signal.SIGHUP))


def interrupt(t: Trial) -> None:
    """Ctrl-C at any moment, a third of them twice."""
    _signalled(t, "any", signal.SIGINT, (130,))


def interrupt_loading(t: Trial) -> None:
    """Ctrl-C while the model is loading."""
    _signalled(t, "loading", signal.SIGINT, (130,))


def interrupt_verdict(t: Trial) -> None:
    """Ctrl-C while the verdict is sought."""
    _signalled(t, "verdict", signal.SIGINT, (130,))


def full_run(t: Trial) -> None:
    """The run directory's disk fills."""
    disk = t.folder / "disk"
    mount(disk, int(t.draw.uniform(0.02, 1.1) * t.whole.size))
    t.mends.append(lambda: resize(disk, 2**28))
    child, log = t.start()
    code = t.close(child, log, (0, 2), "full disk")
    t.where = NOTHING if code == 0 else t.place()


def full_cache(t: Trial) -> None:
    """The cache folder's disk fills."""
    mount(t.cache, 4096 * int(t.draw.choice((1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 16, 20))))
    t.mends.append(lambda: resize(t.cache, 2**28))
    child, log = t.start()
    code = t.close(child, log, (0, 2), "full cache")
    t.where = "warned" if "the cache takes no more" in log.read_text() else NOTHING if code == 0 else t.place()


def readonly_run(t: Trial) -> None:
    """The run directory becomes read-only while it trains."""
    child, log = t.start()
    if t.at(child, t.draw.choice(("training", "training", "saving", "verdict"))):
        cover(t.run)
        t.mends.append(lambda: unmount(t.run))
    t.close(child, log, (0, 2), f"read-only while {t.where}")


def readonly_start(t: Trial) -> None:
    """The run directory, or where it is to be, is read-only at the start."""
    if t.draw.random() < 0.5:
        t.stop_somewhere("training")
    place = t.run if t.run.exists() else t.folder / "disk"
    cover(place)
    child, log = t.start([*t.words, "--resume"])
    t.close(child, log, (2,), "read-only at the start")
    unmount(place)


def readonly_cache(t: Trial) -> None:
    """The cache folder is read-only, from the start or from some moment on."""
    child = log = None
    if t.draw.random() < 0.5:
        child, log = t.start()
        t.at(child, "any")
    else:
        t.where = "before the start"
    cover(t.cache)
    t.mends.append(lambda: unmount(t.cache))
    if child is None:
        child, log = t.start()
    t.close(child, log, (0, 2), f"read-only cache {t.where}")


def checkpoint_file(t: Trial) -> None:
    """A file of the newest checkpoint is altered, cut or removed."""
    t.stop_with_checkpoints()
    newest = t.checkpoints()[0]
    t.touched.add(newest.name)
    t.where = spoil(t.draw.choice(sorted(p for p in newest.rglob("*") if p.is_file())), t.draw)


def checkpoint_files(t: Trial) -> None:
    """Every checkpoint is altered."""
    t.stop_with_checkpoints()
    for folder in t.checkpoints():
        t.touched.add(folder.name)
        t.where = spoil(t.draw.choice(sorted(p for p in folder.rglob("*") if p.is_file())), t.draw)


def checkpoint_stray(t: Trial) -> None:
    """Folders and files that are no checkpoints lie among them."""
    t.stop_with_checkpoints()
    (t.run / "checkpoints" / "checkpoint-foo").mkdir()
    (t.run / "checkpoints" / "checkpoint-900").mkdir()
    (t.run / "checkpoints" / "checkpoint-12.bak").write_text("no folder")
    t.touched.add("checkpoint-900")


def checkpoint_gone(t: Trial) -> None:
    """The newest checkpoint, or all of them, or their folder is removed."""
    t.stop_with_checkpoints()
    which = t.draw.choice(("newest", "all", "folder"))
    for folder in t.checkpoints()[: 1 if which == "newest" else None]:
        shutil.rmtree(folder)
    if which == "folder":
        shutil.rmtree(t.run / "checkpoints")
    t.where = which


def checkpoint_gone_running(t: Trial) -> None:
    """A checkpoint, or the folder of all, is removed while it trains."""
    child, log = t.start()
    if t.at(child, "training"):
        found = t.checkpoints()
        target = t.draw.choice([*found, t.run / "checkpoints"])
        t.where = f"{target.name} while {t.where}"
        shutil.rmtree(target, ignore_errors=True)
    t.close(child, log, (0, 2), f"removed {t.where}")


def _spoil_cache(t: Trial, pattern: str) -> None:
    found = sorted(p for p in t.cache.glob(pattern) if p.is_file())
    t.where = spoil(t.draw.choice(found), t.draw) if found else NOTHING


def cache_altered(t: Trial) -> None:
    """A cached file is altered between two processes."""
    t.stop_somewhere(t.draw.choice(("training", "saving", "verdict")))
    _spoil_cache(t, "**/*")


def cache_altered_running(t: Trial) -> None:
    """A cached file is cut or removed while it runs."""
    child, log = t.start()
    if t.at(child, "any"):
        found = sorted(p for p in t.cache.rglob("*") if p.is_file() and p.suffix != ".bin" and p.suffix != ".npy")
        t.where = spoil(t.draw.choice(found), t.draw) if found else NOTHING
    t.close(child, log, (0, 2), f"cache altered, {t.where}")


def cache_replies(t: Trial) -> None:
    """The cached replies of the judge are altered between two processes."""
    t.stop_somewhere("judge.sqlite")
    _spoil_cache(t, "judge.sqlite*")


def cache_responses(t: Trial) -> None:
    """The cached responses are altered between two processes."""
    t.stop_somewhere("responses.sqlite")
    _spoil_cache(t, "responses.sqlite*")


def cache_reference(t: Trial) -> None:
    """The reference's cached log-probs are altered between two processes."""
    t.stop_somewhere("training")
    _spoil_cache(t, "**/reference-*")


def cache_encoded(t: Trial) -> None:
    """The encoded data is altered between two processes."""
    t.stop_somewhere("training")
    _spoil_cache(t, "encoded/*/*")


def gone_run(t: Trial) -> None:
    """The run directory is removed while it runs."""
    child, log = t.start()
    if t.at(child, "any"):
        shutil.rmtree(t.run, ignore_errors=True)
        t.lost = True
    t.close(child, log, (0, 2), f"run directory removed while {t.where}")
    if t.run.exists() and t.lost:
        shutil.rmtree(t.run)  # as a user who means it


def gone_cache(t: Trial) -> None:
    """The cache folder is removed while it runs."""
    child, log = t.start()
    if t.at(child, "any"):
        shutil.rmtree(t.cache, ignore_errors=True)
    t.close(child, log, (0, 2), f"cache removed while {t.where}")


def gone_data(t: Trial) -> None:
    """The data is removed while it runs, and put back later; the reward function, too."""
    mine = t.folder / "data"
    shutil.copytree(t.made, mine, ignore=shutil.ignore_patterns("model"))
    t.words = [w.replace(str(t.made), str(mine)) if "model" not in w else w for w in t.words]
    child, log = t.start()
    if t.at(child, "any"):
        mine.rename(t.folder / "away")
        if t.draw.random() < 0.6:
            os.kill(child, signal.SIGKILL)
    t.close(child, log, (0, 2, -signal.SIGKILL), f"data removed while {t.where}")
    if mine.exists():
        return
    again, log = t.start([*t.words, "--resume"])
    t.close(again, log, (2,), "going on without data")
    (t.folder / "away").rename(mine)


def clock(t: Trial) -> None:
    """The clock jumps by a day in the middle, back or forth, and it is killed later, or not."""
    child, log = t.start(jumps=t.draw.choice((-86400.0, 86400.0)))
    if t.at(child, "any"):
        time.sleep(0.05)
        if t.lines():
            os.kill(child, signal.SIGUSR1)
        if t.draw.random() < 0.5 and t.at(child, "training"):
            os.kill(child, signal.SIGKILL)
    t.close(child, log, (0, -signal.SIGKILL), "clock")
    for folder in t.checkpoints():  # the file system's times, too
        when = time.time() + t.draw.choice((-1, 1)) * 86400
        os.utime(folder, (when, when))


def two(t: Trial) -> None:
    """A second process in one folder, later or at the same time; the first is killed then, or not."""
    child, log = t.start()
    if t.draw.random() < 0.5:
        t.at(child, "training")
        holds = t.place() != "loading"
        second, other = t.start([*t.words, *t.draw.choice(([], ["--resume"]))])
        code = t.close(second, other, (2,) if t.where != NOTHING else (0, 2), "the second")
        text = other.read_text()
        if code == 2 and holds and t.where != NOTHING and not (f"process {child} on" in text or "already holds a run" in text):
            t.faults.append(f"the second does not name the first ({other.name})")
        if t.draw.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        t.close(child, log, (0, -signal.SIGKILL), "the first")
    else:
        t.where = "at once"
        second, other = t.start()
        codes = [t.close(child, log, (0, 2), "one"), t.close(second, other, (0, 2), "other")]
        if 0 not in codes:
            t.faults.append(f"neither of two went on: {codes}")
    log.rename(log.with_suffix(".first"))
    (t.folder / f"{t.count:02}.log").write_text("") if not (t.folder / f"{t.count:02}.log").exists() else None


def _torn(path: Path, draw: random.Random) -> str:
    content = path.read_bytes() if path.exists() else b""
    how = draw.choice(("half a line", "last line cut", "zeros", "no end"))
    last = content.rstrip(b"\n").rpartition(b"\n")[2]
    if how == "half a line" or not last:
        path.write_bytes(content + b'{"step": 900, "lo')
    elif how == "last line cut":
        path.write_bytes(content[: -draw.randint(2, len(last))] if len(last) > 2 else content)
    elif how == "zeros":
        path.write_bytes(content + b"\0" * draw.randint(1, 5000))
    else:
        path.write_bytes(content.rstrip(b"\n"))
    return how


def torn_metrics(t: Trial) -> None:
    """metrics.jsonl is torn, as by a disk that failed."""
    t.stop_somewhere("training")
    t.where = _torn(t.run / "metrics.jsonl", t.draw)


def torn_events(t: Trial) -> None:
    """events.jsonl is torn."""
    t.stop_somewhere("training", t.draw.choice((signal.SIGTERM, signal.SIGKILL)))
    t.where = _torn(t.run / "events.jsonl", t.draw)


KINDS = {f.__name__.replace("_", "-"): f for f in (
    kill, kill_saving, kill_verdict, term, term_loading, term_verdict, hup, interrupt, interrupt_loading, interrupt_verdict,
    full_run, full_cache, readonly_run, readonly_start, readonly_cache, checkpoint_file, checkpoint_files, checkpoint_stray,
    checkpoint_gone, checkpoint_gone_running, cache_altered, cache_altered_running, cache_replies, cache_responses, cache_reference,
    cache_encoded, gone_run, gone_cache, gone_data, clock, two, torn_metrics, torn_events)}  # fmt: skip
SUITS = {
    "kill-verdict": JUDGED,
    "term-verdict": JUDGED,
    "interrupt-verdict": JUDGED,
    "cache-replies": ("dpo-judged",),
    "cache-responses": JUDGED,
    "cache-reference": ("dpo-judged",),
    "full-cache": ("dpo", "reward", "dpo-judged", "ppo-judged"),
    "cache-encoded": ("dpo", "reward", "dpo-judged"),
}
"""Methods that a kind is for, where it is not for all."""


def left_alone(method: str, folder: Path, made: Path) -> Whole:
    """A run that nothing happens to."""
    place, cache = folder / f"whole-{method}" / "disk" / "run", folder / f"whole-{method}" / "cache"
    place.parent.mkdir(parents=True)
    log, since = folder / f"whole-{method}.log", time.monotonic()
    code = ended(begin(command(method, made, place, cache), log, cache))
    assert code == 0, log.read_text()[-3000:]
    size = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
    return Whole(losses(place), weights(place), verdict(place), time.monotonic() - since, size)


def table(done: list[Trial]) -> str:
    """Kinds with their trials and what became of them."""
    lines = [
        "| what happened | trials | went on | after a sentence | from the start | nothing happened | wrong |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    total: Counter[str] = Counter()
    for kind in KINDS:
        found = [t for t in done if t.kind == kind]
        if found:
            each = Counter(outcome(t) for t in found)
            total += each
            shown = " | ".join(str(each[name] or "") for name in ("ok", "said", "lost", "idle", "wrong"))
            lines.append(f"| {kind} | {len(found)} | {shown} |")
    return "\n".join(
        [*lines, f"| all | {len(done)} | {' | '.join(str(total[n] or '') for n in ('ok', 'said', 'lost', 'idle', 'wrong'))} |"]
    )


def outcome(t: Trial) -> str:
    """One word."""
    return "wrong" if t.faults else "idle" if t.where == NOTHING else "lost" if t.lost else "said" if t.said else "ok"


def trials(own: argparse.Namespace, folder: Path, made: Path) -> list[Trial]:
    """Trials until the time is up."""
    draw, done, until = random.Random(own.seed), [], time.monotonic() + own.minutes * 60
    whole: dict[str, Whole] = {}
    bag: list[str] = []
    while time.monotonic() < until and len(done) < own.trials:
        if not bag:
            bag = list(own.only or KINDS)
            draw.shuffle(bag)
        kind = bag.pop()
        method = draw.choice([m for m in SUITS.get(kind, METHODS) if not own.methods or m in own.methods] or SUITS.get(kind, METHODS))
        if method not in whole:
            whole[method] = left_alone(method, folder, made)
        place = folder / f"{len(done):03}-{kind}"
        t = Trial(kind, method, place, made, whole[method], random.Random(draw.random()), draw.random() < 0.1)
        since = time.monotonic()
        try:
            KINDS[kind](t)
            if not t.faults:
                t.go_on()
            if not t.faults:
                t.pages()
            t.check()
        except Exception as error:
            traceback.print_exc()
            t.faults.append(f"the trial itself failed: {error!r}")
        for mounted in (t.run, t.cache, t.folder / "disk"):
            for _ in range(2):
                unmount(mounted)
        done.append(t)
        told = "; ".join([*(f"WRONG: {f}" for f in t.faults), *(s[:300] for s in t.said)])
        print(f"{len(done):3} {kind:23} {method:11} {'fresh ' if t.fresh else ''}{t.where}: {outcome(t)}, "
              f"{time.monotonic() - since:.0f} s {told}", flush=True)  # fmt: skip
        if t.faults:
            print(f"    kept: {place}", flush=True)
        else:
            shutil.rmtree(place, ignore_errors=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--trials", type=int, default=10**6, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(KINDS), help="kinds of bad things")
    parser.add_argument("--methods", nargs="*", choices=METHODS)
    parser.add_argument("--keep", type=Path, help="folder for the trials; those that went wrong stay there")
    own = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OPENAI_API_KEY": "none"}
    import torch

    import prefine.api.doctoring
    import prefine.evaluation.evaluate
    import prefine.evaluation.server_judge
    import prefine.report.run_page
    import prefine.training.dpo
    import prefine.training.online_dpo
    import prefine.training.ppo
    import prefine.training.reward
    import prefine.training.sft  # noqa: F401  before forking: a run then starts at once

    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = own.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        materials(made)
        address = stack.enter_context(judge_server())
        (made / "judge.yaml").write_text(f"judge: openai\njudge_model: any\nserver: {address}\n")
        done = trials(own, folder, made)
    print(f"\n{table(done)}\n")
    return int(any(t.faults for t in done))


if __name__ == "__main__":
    raise SystemExit(main())
