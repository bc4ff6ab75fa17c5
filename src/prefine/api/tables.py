"""Tables that show themselves: as text in a terminal, as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefine.errors import printable


@dataclass
class Table:
    """Rows of cells under a heading; cells are untrusted text.

    Attributes:
        styles: rich's style of each row's first cell, where rows are graded.
        numbers: columns that stand to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    styles: Sequence[str] = ()
    numbers: frozenset[int] = field(default_factory=frozenset)

    def __rich__(self) -> Any:
        from rich.table import Table as RichTable
        from rich.text import Text

        shown = RichTable(title=Text(printable(self.title)) if self.title else None)
        for place, column in enumerate(self.columns):
            shown.add_column(Text(printable(column)), justify="right" if place in self.numbers else "left", overflow="fold")
        for place, row in enumerate(self.rows):
            style = self.styles[place] if place < len(self.styles) else ""
            shown.add_row(*(Text(printable(cell), style if at == 0 else "") for at, cell in enumerate(row)))
        return shown

    def __str__(self) -> str:
        import io

        from rich.console import Console

        console = Console(file=io.StringIO(), width=100, color_system=None, force_jupyter=False)
        console.print(self)
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{escape(printable(c))}</th>" for c in self.columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(printable(c))}</td>' for c in row)}</tr>" for row in self.rows)
        caption = f"<caption>{escape(printable(self.title))}</caption>" if self.title else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Shows:
    """A result that shows itself: tables, then sentences, in a terminal, as text and in a notebook."""

    def parts(self) -> list[Any]:
        """Sentences and tables, in order."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(printable(p) if isinstance(p, str) else str(p).rstrip() for p in self.parts())

    def __repr__(self) -> str:
        return str(self)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        return Group(*(Text(printable(p)) if isinstance(p, str) else p for p in self.parts()))

    def _repr_html_(self) -> str:
        return "".join(lines_html([p]) if isinstance(p, str) else p._repr_html_() for p in self.parts())


def lines_html(lines: Sequence[str]) -> str:
    """Sentences for a notebook."""
    from html import escape

    return "".join(f"<div>{escape(printable(line))}</div>" for line in lines)
