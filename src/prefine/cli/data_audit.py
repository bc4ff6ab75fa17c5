"""``prefine data audit``."""

from dataclasses import dataclass, field

from prefine.api.auditing import AuditResult, audit_data, explain
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


@dataclass
class AuditView:
    """What is printed, and the exit code."""

    strict: bool = field(default=False, metadata={"help": "Exit with 1 when something must be fixed: for CI."})
    explain: str | None = field(default=None, metadata={"help": "Say what a check sees, why it matters, an example and the fix."})


def before(own: AuditView, terminal: Terminal) -> int | None:
    """``--explain`` reads no data."""
    if own.explain is None:
        return None
    terminal.show(*explain(own.explain))
    return 0


def show(found: AuditResult, own: AuditView, terminal: Terminal) -> int:
    """The findings, and where they were written."""
    terminal.show(found)
    if found.grade != "fine":
        terminal.show("prefine data audit --explain CHECK says what a check sees, why it matters and what to do")
    if found.written:
        terminal.show(f"findings written to {found.written}")
    if found.page:
        terminal.show(f"page written to {found.page}")
    return int(own.strict and found.grade == "fix")


COMMAND = Command(audit_data, show, own=AuditView, before=before)
