"""Public functions whose keywords are the fields of option classes: one description for calls, flags and files."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from prefine.api.fields import training_options
from prefine.api.options import Option, checked, options_of, pick
from prefine.api.progress import Progress, finishing, progress_of
from prefine.api.quiet import restore
from prefine.errors import ConfigError, ModelError, PrefineError
from prefine.processes import is_first
from prefine.redaction import REDACTED, is_redacted, refresh, remember
from prefine.runs import discard_unused, unlock

MEMORY_ADVICE = (
    "lower max_length, the response's length or the batch size, or load the model in bfloat16 or 4-bit; "
    "a training run's last complete checkpoint stays, and --resume goes on from it"
)
"""Where memory ran out in something that cannot be done in smaller pieces."""


class Call:
    """A function of option classes, called by their fields' names.

    Args:
        function: takes an instance of each of ``kinds`` (or, with ``options``, what was given by name) and a
            :class:`~prefine.api.progress.Progress`.
        positional: names that may stand without a keyword, in order; with ``rest`` the last takes all that are left.
        options: of a call whose option classes take long to import.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        kinds: tuple[Any, ...],
        positional: tuple[str, ...] = (),
        rest: bool = False,
        options: Callable[[], Mapping[str, Option]] | None = None,
    ) -> None:
        self.function, self.kinds, self.positional, self.rest, self._options = function, kinds, positional, rest, options
        self.__name__, self.__qualname__, self.__module__ = function.__name__, function.__qualname__, function.__module__
        self.__doc__ = function.__doc__

    def options(self) -> dict[str, Option]:
        """All its options by name."""
        if self._options is not None:
            return dict(self._options())
        return {name: option for kind in self.kinds for name, option in options_of(kind).items()}

    def __call__(self, *words: Any, progress: Any = None, **given: Any) -> Any:
        """Call it; ``progress`` is None (silent), True (tqdm) or a Progress.

        Raises:
            TypeError: too many words without a keyword, or one given twice.
            ConfigError: an unknown keyword, or a value of another type.
        """
        if self.rest and words:
            many = words[len(self.positional) - 1 :]
            lone = many[0] if len(many) == 1 and isinstance(many[0], list | tuple) else many
            words = (*words[: len(self.positional) - 1], list(lone))
        if len(words) > len(self.positional):
            raise TypeError(f"{self.__name__}() takes {len(self.positional)} positional arguments but {len(words)} were given")
        named = dict(zip(self.positional, words, strict=False))
        twice = named.keys() & given.keys()
        if twice:
            raise TypeError(f"{self.__name__}() got multiple values for argument {sorted(twice)[0]!r}")
        values = checked(named | given, self.options())
        with finishing(progress_of(progress)) as shown:
            return self.run(values, shown)

    def run(self, values: Mapping[str, Any], progress: Progress) -> Any:
        """Call it with values that were checked; ``repeat`` among a training command's are the words of the line that gave them."""
        refresh()
        progress = progress if is_first() else Progress()
        remember({name: value for name, value in values.items() if name != "repeat"})
        try:
            for name, value in values.items():
                if name != "repeat" and is_redacted(value):
                    raise ConfigError(f"{name} holds {REDACTED}: the secret was left out of the file that it is from; give it anew")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # libraries tell each other of what they will rename
                if self._options is not None:
                    return self.function(values, progress)
                return self.function(*(pick(kind, values) for kind in self.kinds), progress)
        except PrefineError:
            discard_unused()  # a run directory in which nothing began
            raise
        except (RuntimeError, MemoryError) as error:
            from prefine.packing.out_of_memory import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            raise ModelError(f"out of memory ({str(error).strip().partition(chr(10))[0][:200]}); {MEMORY_ADVICE}", code="PF-M08") from error
        finally:
            unlock()
            restore()

    @property
    def __signature__(self) -> inspect.Signature:
        kind = inspect.Parameter
        options = self.options()
        ordered = [*(options[n] for n in self.positional), *(o for n, o in options.items() if n not in self.positional)]
        parameters = []
        for o in ordered:
            if self.rest and o.name == self.positional[-1]:
                parameters.append(kind(o.name, kind.VAR_POSITIONAL, annotation=Any))
            else:
                how = kind.POSITIONAL_OR_KEYWORD if o.name in self.positional else kind.KEYWORD_ONLY
                parameters.append(kind(o.name, how, default=o.default, annotation=o.type))
        return inspect.Signature([*parameters, kind("progress", kind.KEYWORD_ONLY, default=None)])

    def __repr__(self) -> str:
        words = ", ".join([f"*{self.positional[0]}" if self.rest else n for n in self.positional] + ["**options"])
        names = ", ".join(self.options())
        return f"prefine.{self.__name__}({words})\n\n{inspect.getdoc(self) or ''}\n\nOptions: {names}"


def call(*kinds: Any, positional: tuple[str, ...] = (), rest: bool = False) -> Callable[[Callable[..., Any]], Call]:
    """Make a function a :class:`Call`."""
    return lambda function: Call(function, kinds, positional, rest)


def options_call(options: Callable[[], Mapping[str, Option]], positional: tuple[str, ...]) -> Callable[[Callable[..., Any]], Call]:
    """Make a function of what was given by name a :class:`Call` of these options."""
    return lambda function: Call(function, (), positional, options=options)


def training_call(command: str, *kinds: Any) -> Callable[[Callable[..., Any]], Call]:
    """Make a function of what was given by name the call of a training command; ``kinds`` are its options beside its config's."""

    def options() -> Mapping[str, Option]:
        return training_options(command, kinds)

    return options_call(options, ("model", "data", "output_dir"))
