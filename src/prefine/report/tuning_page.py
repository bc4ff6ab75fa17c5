"""A search for settings on one page: what was chosen, the measure over what was searched, every trial. No torch.

``OUT/tune.json`` is all that is read: ``told`` (what was searched), ``trials`` and ``result``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefine.report.page import figures, page, render
from prefine.report.plots import Estimate, intervals
from prefine.report.surface import Measured, surface
from prefine.report.tables import Table, cell, points, rate
from prefine.runs import replace_file

KINDS = {"better": "better", "worse": "bad", "inconclusive": "doubt", "default": "none"}
FIRST = "learning_rate"
"""What stands across, where it was searched."""


def write_tuning(folder: Path) -> Path:
    """Write ``report.html`` of a search that came to its end; returns its path."""
    found = json.loads((folder / "tune.json").read_text(encoding="utf-8"))
    replace_file(folder / "report.html", tuning_page(found, folder.resolve().name))
    return folder / "report.html"


def tuning_page(found: Mapping[str, Any], name: str) -> str:
    """The page, of what ``tune.json`` holds."""
    import yaml

    result, trials = found["result"], found["trials"]
    body = render(
        "tuning.html",
        title=name,
        sentence=result["lines"][0],
        kind=KINDS[result["outcome"]],
        notes=[line.strip() for line in result["lines"][1:-1]],
        rates=figures([_rates(result)]),
        surfaces=figures(
            [c for part in sorted({t["part"] for t in trials}) if (c := _surface(trials, part, result["measured"])) is not None]
        ),
        trials=_trials(trials),
        numbers=_numbers(result),
        launch=result["launch"],
        best=yaml.safe_dump(result["best"], sort_keys=False) if result["best"] else "",
    )
    return page(f"Prefine: search in {name}", body)


def _rates(result: Mapping[str, Any]) -> Any:
    """What it was chosen by and what fresh prompts say, one below the other."""
    x = f"{result['measured']}, %"
    rows = [Estimate("on fresh prompts", result["fresh"]), Estimate("on the prompts it was chosen by", result["select"])]
    return intervals(f"{result['measured']} of the chosen setting, 95 % CI", rows, minimum=0.5, x=x)


def _surface(trials: Sequence[Mapping[str, Any]], part: int, measured: str) -> Any:
    """Trials of one length: the measure over what was searched first, a line per value of the rest; None of fewer than two."""
    kept = [t for t in trials if t["part"] == part and t["measure"] is not None]
    if len(kept) < 2:
        return None
    names = list(dict.fromkeys(n for t in kept for n in t["settings"]))
    numeric = [n for n in names if all(_is_number(t["settings"].get(n)) for t in kept)]
    varied = [n for n in numeric if len({t["settings"][n] for t in kept}) > 1]
    across = FIRST if FIRST in varied else next(iter(varied), names[0])
    rows = [
        Measured(
            ", ".join(f"{n} {_text(t['settings'].get(n))}" for n in names if n != across),
            t["settings"][across] if across in numeric else _text(t["settings"].get(across)),
            t["measure"],
        )
        for t in kept
    ]
    length = "in full" if part == 1 else f"after 1/{part} of the steps"
    return surface(f"{measured} {length}, 95 % CI", rows, across, f"{measured}, %")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return "+".join(map(cell, value)) if isinstance(value, list) else cell(value)


def _trials(trials: Sequence[Mapping[str, Any]]) -> Table:
    """A row a trial, the longest first, the best first among them."""
    names = list(dict.fromkeys(n for t in trials for n in t["settings"]))
    order = sorted(trials, key=lambda t: (t["part"], -(t["measure"] or {"estimate": -1})["estimate"]))
    rows = [
        [
            "full" if t["part"] == 1 else f"1/{t['part']}",
            *(_text(t["settings"].get(n)) for n in names),
            cell(t["steps"]),
            f"failed: {t['failed']}" if t["measure"] is None else rate(t["measure"]) + ", unchanged" * bool(t["measure"].get("unchanged")),
            f"{t['seconds']:.0f}",
            "; ".join(t["guard"]),
            t["name"],
        ]
        for t in order
    ]
    head = ["length", *names, "steps", "measure", "seconds", "what the guard found", "run"]
    return Table(head, rows, "Trials", "In brackets: 95 % CI, on the prompts that trials are compared by.", prose=True)


def _numbers(result: Mapping[str, Any]) -> Table:
    prompts, change = result["prompts"], result["difference"]
    rows = [
        [f"{result['measured']} on fresh prompts", rate(result["fresh"])],
        [f"{result['measured']} on the prompts it was chosen by", rate(result["select"])],
        ["against the default on fresh prompts, points", points(change) if change else ""],
        ["prompts trained on, chosen by, fresh", ", ".join(f"{prompts[n]:,}" for n in ("train", "select", "fresh"))],
        ["length of the search, full trainings", f"{result['cost']:.3g}"],
    ]
    return Table(["", ""], [r for r in rows if r[1]], "The choice", "In brackets: 95 % CI.")
