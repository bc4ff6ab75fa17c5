from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from prefine import redaction

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)  # tiny models: threads only wait for each other
os.environ["PREFINE_CACHE"] = tempfile.mkdtemp(prefix="prefine-tests-")
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _forget_token_budgets() -> Iterator[None]:
    """What a test learned of memory that ran out is none of another's business."""
    yield
    (Path(os.environ["PREFINE_CACHE"]) / "token_budgets.json").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """What a test gives is no secret in the next."""
    before = set(redaction._given)
    yield
    redaction._given.clear()
    redaction._given.update(before)
    redaction.refresh()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("real data is not at hand")
    return SHARED


@pytest.fixture(scope="session")
def lab_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lab's untrained model and tokenizer."""
    from prefine.lab.model import build_model, build_tokenizer

    folder = tmp_path_factory.mktemp("lab-model")
    build_model(0, hidden=32, layers=2).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def hearing() -> None:
    """For a process to begin with: it hears signals, though the tests run under nohup or in a shell's background, where they do not."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def lab_pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs of the lab's corpus replies, better one chosen."""
    import random

    from prefine.lab.language import corpus_reply, gold, split_tickets

    rng = random.Random(seed)
    tickets, _ = split_tickets()
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        ticket = rng.choice(tickets)
        answers = sorted((corpus_reply(ticket, rng) for _ in range(2)), key=lambda a: gold(ticket.prompt, a).score)
        if answers[0] != answers[1]:
            turn = [{"role": "user", "content": ticket.prompt}]
            rows.append({"prompt": turn, "chosen": answers[1], "rejected": answers[0]})
    return rows


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import json

    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in lab_pairs(64)))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    flags = (
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    )
    with sync_playwright() as tool:
        found = tool.chromium.launch(executable_path=path, args=list(flags))
        yield found
        found.close()


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny chat model that reads any text."""
    from tiny_chat import build_tiny_chat

    return build_tiny_chat(tmp_path_factory.mktemp("models") / "tiny-chat")
