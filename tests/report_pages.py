"""What the tests of pages share: a run directory that nothing trained, hostile words, a reader of HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from prefine.runs import HELD_OUT_PAIRS, RunDirectory, write_json, write_jsonl

EVIL = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>\x1b[31m"
ESCAPES = """"></td></script><script>window.ran = 3</script><!--{{ 7 * 7 }}${window.ran = 4}\u2028<svg onload='window.ran = 5'>"""
"""Ways out of an attribute, of a script element, and into two template languages."""


class Seen(HTMLParser):
    """Tags, attributes, texts and scripts of a page; ``text`` is what a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside != "style":
            self.text += data


def fake_run(folder: Path, count: int, evil: str = "") -> RunDirectory:
    """A run directory with an evaluation, and nothing trained; ``evil`` stands wherever a model, a person or a file may say something."""
    run = RunDirectory.create(folder)
    run.write_config({"model": "base/model", "data": ["x.jsonl"], "beta": 0.1, "note": evil}, ["dpo", evil])
    run.write_data({"source": f"x {evil}", "format": f"pairs {evil}", "rows": count, "dropped": {f"no prompt {evil}": {"count": 1}}})
    for step in range(1, 30):
        values = {"loss": 1 / step, "logps/chosen": -step, "logps/rejected": -2 * step, "grad_norm": float("nan")}
        run.append_metrics({"step": step, **values, "rewards/chosen": step, "eval_logps/chosen": -step, "eval_loss": 2 / step})
    run.append_event("resume", step=3, note=evil)
    answers = {"base": f"the base says {evil} number", "tuned": f"the tuned says {evil} figure"}
    rows = [
        {
            "key": str(i),
            "cluster": str(i),
            "category": f"kind {i % 3} {evil}",
            "prompt": [{"role": f"user{evil}", "content": f"question {i} {evil}"}],
        }
        | {side: f"{text} {i} " * 20 for side, text in answers.items()}
        for i in range(count)
    ]
    wins = [(1.0, 0.0, 0.5, None)[i % 4] for i in range(count)]
    folder = run.evaluation("judge")
    write_jsonl(folder / "generations.jsonl", rows)
    verdicts: list[dict[str, Any]] = [
        {"key": str(i), "item": str(i), "tuned_wins": w, "raw": [f"I say {evil}"]} | ({} if w is None else {"scores": [i % 5, i % 7]})
        for i, w in enumerate(wins)
    ]
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    pairs = [{"row": i, "cluster": str(i), "chosen": [-9.0 - i % 5, -8.0], "rejected": [-9.0, -11.0 + i % 4]} for i in range(count)]
    write_jsonl(folder / HELD_OUT_PAIRS, pairs)
    interval = {"estimate": 0.5, "low": 0.45, "high": 0.55, "count": count, "clusters": count}
    summary = {
        "outcome": "inconclusive",
        "sentence": f"INCONCLUSIVE {evil}",
        "win_rate": interval,
        "judge": evil,
        "models": [evil, "tuned"],
    }
    skill = {"name": f"skill {evil}", "before": 0.5, "after": 0.6, "change": interval, "state": "kept"}
    sign = {"name": "loop", "about": f"loops {evil}", "base": 0.1, "tuned": 0.2, "change": interval, "broken": True}
    more = {
        "skills": [skill],
        "degeneration": [sign],
        "categories": {f"kind 0 {evil}": interval},
        "win_rate_by_length": {f"longer {evil}": interval},
        "perplexity": [{"source": evil or "text", "before": 2.0, "after": 3.0, "change": interval}],
        "ratings": {f"{side} {evil}": {"all": interval} for side in answers},
    }
    write_json(folder / "summary.json", summary | (more if evil else {}))
    return run
