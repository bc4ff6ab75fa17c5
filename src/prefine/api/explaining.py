"""What an error's code means, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.tables import Shows
from prefine.error_codes import GROUPS, KINDS, ErrorKind
from prefine.errors import ConfigError, nearest


@dataclass
class ExplainOptions:
    """Options of ``prefine explain``."""

    code: str | None = field(default=None, metadata={"help": "The code behind an error's message, as PF-D01. Unset: all are listed."})


@dataclass(frozen=True, repr=False)
class Explained(Shows):
    """Kinds of errors.

    Attributes:
        kinds: the one that was asked for, or all.
    """

    kinds: tuple[ErrorKind, ...]

    def parts(self) -> list[Any]:
        """What there is to see."""
        if len(self.kinds) > 1:
            return [f"{kind.code}  {kind.name}" for kind in self.kinds]
        [kind] = self.kinds
        about = f"{kind.code} ({GROUPS[kind.code[3]].lower()}): {kind.name}"
        return [about, "", kind.meaning, "", f"for example: {kind.example}", "", f"what to do: {kind.fix}"]


@call(ExplainOptions, positional=("code",))
def explain(given: ExplainOptions, progress: Progress) -> Explained:
    """What an error's code means, with an example, and what to do; all codes where none is given.

    Raises:
        ConfigError: no such code.
    """
    if given.code is None:
        return Explained(tuple(KINDS.values()))
    code = given.code.strip().strip("[]").upper()
    code = code if code.startswith("PF-") else f"PF-{code}"
    if code not in KINDS:
        raise ConfigError(f"no error has the code {given.code!r}{nearest(code, KINDS)}; prefine explain lists all", code="PF-C01")
    return Explained((KINDS[code],))
