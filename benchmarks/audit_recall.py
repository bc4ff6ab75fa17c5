"""Recall and false alarms of the audit; writes docs/audit-recall.md.

    python benchmarks/audit_recall.py [--rows 5000]
    PYTHONPATH=OTHER/src python benchmarks/audit_recall.py --save "a name"   # the recall of other code by shape, into audit_recall.json

Two measurements: planted_faults.py (one shape a fault, one of a hundred clean rows, all checks) and audit_shapes.py (many shapes
a fault, written without a look at the checks).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from audit_shapes import CLEAN, SHAPES  # noqa: E402
from planted_faults import MAX_LENGTH, ONE_ROW, Clean, plant, tokenizer  # noqa: E402
from prefine.audit.audit import Limits, audit  # noqa: E402
from prefine.audit.check import Finding  # noqa: E402
from prefine.audit.workers import Tokenization  # noqa: E402
from prefine.errors import DataError  # noqa: E402
from prefine.preferences.convert import Reading  # noqa: E402

SAVED = HERE / "audit_recall.json"
Counts = dict[str, dict[str, tuple[int, int]]]
OF_TWO_ROWS = ("near-duplicate-prompts",)
"""Faults of which the second row of two is the one at fault."""


def findings(folder: Path, rows: list[dict[str, Any]], tokens: Tokenization | None = None, near: bool = True) -> dict[str, Finding]:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {f.name: f for f in audit([str(path)], Reading(format="pairs"), tokens, Limits(MAX_LENGTH), near=near, processes=1).findings}


def by_shape(folder: Path) -> tuple[Counts, list[str]]:
    """Fault -> shape -> (found, planted), and what clean rows were blamed for."""
    counts: Counts = {}
    for fault, shapes in SHAPES.items():
        for shape, rows in shapes.items():
            of = len(rows) // 2 if fault in OF_TWO_ROWS else len(rows)
            try:
                found = findings(folder, rows, near=fault in OF_TWO_ROWS)
                hits = len(found[fault].rows) + (len(found["dropped"].rows) if fault == "equal-normalised" else 0)
            except DataError:  # every row is dropped
                hits = of if fault == "equal-normalised" else 0
            counts.setdefault(fault, {})[shape] = min(hits, of), of
    found = findings(folder, CLEAN, near=False)
    blamed = [
        f"{name}: {CLEAN[row - 1]['why']}"
        for name in found
        if name in SHAPES and name not in ("near-duplicate-prompts", "conflicting-labels")
        for row in found[name].rows
    ]
    return counts, blamed


def planted_table(folder: Path, count: int) -> list[str]:
    """The table of faults planted in clean rows."""
    clean = Clean(seed=7)
    tokens = Tokenization.of(tokenizer(clean), 32)
    lines = ["| fault | planted | recall | precision | others blamed |", "| --- | --- | --- | --- | --- |"]
    for fault in (None, *ONE_ROW):
        planted = plant(fault, count, clean) if fault else None
        found = findings(folder, planted.rows if planted else [clean.row() for _ in range(count)], tokens)
        blamed = [name for name, f in found.items() if f.grade != "fine" and name != fault]
        if planted is None or fault is None:
            lines.append(f"| (clean) | 0 | | | {', '.join(blamed) or 'none'} |")
            continue
        hits = set(found[fault].rows)
        right = len(hits & planted.at_fault)
        lines.append(
            f"| {fault} | {len(planted.at_fault)} | {right / len(planted.at_fault):.3f} | "
            f"{right / max(1, len(hits)):.3f} | {', '.join(blamed) or 'none'} |"
        )
        print(lines[-1])
    return lines


def shape_tables(now: Counts, saved: dict[str, Counts]) -> list[str]:
    """Recall by fault, then by shape, of saved code and of this."""
    columns = {**saved, "now": now}

    def cells(fault: str, shapes: list[str]) -> str:
        sums = [[sum(c[fault][s][i] for s in shapes) for i in (0, 1)] for c in columns.values()]
        return " | ".join(f"{found} of {of}" for found, of in sums)

    head = [f"| {{}} | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines = [head[0].format("fault"), head[1], *(f"| {fault} | {cells(fault, list(shapes))} |" for fault, shapes in now.items())]
    for fault, shapes in now.items():
        lines += ["", f"### Shapes of {fault}", "", head[0].format("shape"), head[1]]
        lines += [f"| {shape} | {cells(fault, [shape])} |" for shape in shapes]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--save", help="name under which the recall by shape is kept, instead of writing the page")
    given = parser.parse_args()
    saved = json.loads(SAVED.read_text()) if SAVED.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        now, blamed = by_shape(Path(name))
        for fault, shapes in now.items():
            print(f"{fault}: {sum(a for a, _ in shapes.values())} of {sum(n for _, n in shapes.values())}")
        print(f"clean rows blamed: {blamed or 'none'}")
        if given.save:
            SAVED.write_text(json.dumps({**saved, given.save: now}, separators=(",", ":")) + "\n")
            return
        planted = planted_table(Path(name), given.rows)
    text = (
        (HERE / "audit_recall.md")
        .read_text()
        .format(
            rows=given.rows,
            planted="\n".join(planted),
            shapes="\n".join(shape_tables(now, saved)),
            clean=len(CLEAN),
            blamed=f"blames {len(blamed)}: {'; '.join(blamed)}" if blamed else "blames none",
        )
    )
    (HERE.parent / "docs" / "audit-recall.md").write_text(text)


if __name__ == "__main__":
    main()
