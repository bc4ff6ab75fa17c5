"""A command's words to its options, by cyclopts; the types of values are checked where files' and calls' are."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnknownOptionError

from prefine.api.options import ALIASES, Option, checked, meant, read_yaml
from prefine.errors import ConfigError

STDIN, EMPTY = "\0stdin", "\0empty"
STANDS_FOR = {STDIN: "-", EMPTY: ""}
"""Words that cyclopts would take for options, or for none."""
CONFIG = Option("config", str | None, None, "YAML file with the same keys as flags; flags win.")


def make_app(
    name: str,
    about: str,
    options: Mapping[str, Option],
    body: Callable[..., Any] = lambda *words, **given: (words, given),
    everything: bool = False,
    typed: bool = True,
    help_formatter: Any = None,
) -> App:
    """A cyclopts app of one command.

    Args:
        name: as ``data show``; body: called with the loose words and what was given by name, as text.
        everything: help shows all options, not the common ones alone.
        typed: cyclopts is told what a value is, for help and completion; to read words it is told that all are text.
    """
    app = App(
        name=name.split()[-1],
        help=about,
        help_format="plaintext",
        version_flags=[],
        help_flags=[],
        help_formatter=help_formatter,
        result_action="return_value",
    )
    app.default(_function(name, about, options, body, everything, typed))
    return app


def _function(
    name: str, about: str, options: Mapping[str, Option], body: Callable[..., Any], everything: bool, typed: bool
) -> Callable[..., Any]:
    """A function with a parameter an option, which cyclopts reads flags, types and help from."""

    def command(*words: str, **given: Any) -> Any:
        return body(*words, **given)

    groups = {g: Group(g, sort_key=i) for i, g in enumerate(dict.fromkeys(o.group for o in options.values()))}
    kind = inspect.Parameter
    parameters = [kind("words", kind.VAR_POSITIONAL, annotation=Annotated[str, Parameter(show=False)])]
    for option in (*options.values(), CONFIG):
        shown = Parameter(
            name=option.flag,
            alias=[f"--{old.replace('_', '-')}" for old, new in ALIASES.items() if new == option.name] or None,
            help=" ".join(option.help.split()),
            group=groups.get(option.group),
            show=everything or option.common,
            show_default=functools.partial(_default, option) if option.default not in (None, "", []) else False,
            converter=functools.partial(_as_text, option.is_many),
            consume_multiple=option.is_many,
            negative=(),
            allow_repeating=True,
            json_list=False,
            json_dict=False,
            accepts_keys=False,
        )
        parameters.append(kind(option.name, kind.KEYWORD_ONLY, default=None, annotation=Annotated[_kind(option, typed) | None, shown]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__name__, command.__doc__ = name.split()[-1].replace("-", "_"), about
    return command


def _default(option: Option, value: Any) -> str:
    """The option's own default: what cyclopts has is None, so that what was given can be told."""
    value = option.default
    return " ".join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


def _kind(option: Option, typed: bool) -> Any:
    """What cyclopts is told of a value: how many words it takes, and what help calls it."""
    if typed and bool in option.kinds and set(option.kinds) <= {bool, type(None)}:
        return bool
    if option.is_many:
        return list[str]
    numbers = [k for k in (int, float) if k in option.kinds and typed]
    return numbers[-1] if numbers and str not in option.kinds else str


def _as_text(many: bool, kind: Any, tokens: Sequence[Any]) -> Any:
    """Values as they were written: their types are checked by :func:`prefine.api.options.checked`."""
    texts = [STANDS_FOR.get(t.value, t.value) for t in tokens]
    return texts if many else texts[-1]


def parse(
    command: str, argv: Sequence[str], options: Mapping[str, Option], positional: Sequence[str] = (), rest: bool = False
) -> dict[str, Any]:
    """Read flags and the ``--config`` file they name; returns only what was given, each value of its option's type.

    Args:
        positional: names of the words that stand without a flag; with ``rest`` the last takes all that are left.

    Raises:
        ConfigError: an unknown option (with the one that is meant), a missing or ill-typed value, a word too many.
        MissingFile: the config file does not exist.
    """
    app = make_app(command, "", options, typed=False)
    try:
        words, given = app(_normal(argv, options), exit_on_error=False, print_error=False, help_on_error=False)
    except UnknownOptionError as error:
        token = error.token.keyword or error.token.value if error.token is not None else "?"
        if not str(token).startswith("--"):
            raise ConfigError(f"unexpected argument {token!r}; options begin with --", code="PF-C01") from None
        raise ConfigError(f"unknown option {token}{meant(str(token), options) or '; --help lists them'}", code="PF-C01") from None
    except MissingArgumentError as error:
        flag = str(error.argument.name) if error.argument is not None else "an option"
        option = options.get(flag.removeprefix("--").replace("-", "_"))
        raise ConfigError(f"{flag} needs a value{f' ({option.help.rstrip(chr(46))})' if option else ''}") from None
    except CycloptsError as error:
        raise ConfigError(" ".join(str(error).split())) from None
    loose = [STANDS_FOR.get(w, w) for w in words]
    named = {k: v for k, v in given.items() if v is not None}
    config = named.pop("config", None)
    if rest:
        *single, many = positional
        named.update(zip(single, loose, strict=False))
        if loose[len(single) :]:
            named[many] = [*loose[len(single) :], *(named.get(many) or [])]
    elif len(loose) > len(positional):
        raise ConfigError(f"unexpected argument {loose[len(positional)]!r}; options begin with --", code="PF-C01")
    else:
        named.update(zip(positional, loose, strict=False))
    from_file = read_yaml(config, options) if config else {}
    return from_file | checked(named, options)


def _normal(argv: Sequence[str], options: Mapping[str, Option]) -> list[str]:
    """Words as cyclopts takes them: hyphens in names, on and off with or without a value, lone hyphens and empty texts by other words.

    Raises:
        ConfigError: an option without the value that it needs.
    """
    out: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in STANDS_FOR.values():
            out.append(STDIN if word == "-" else EMPTY)
            continue
        if not word.startswith("--") or word == "--":
            out.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        flag, key = f"--{name.replace('_', '-')}", name.replace("-", "_")
        option = options.get(ALIASES.get(key, key) if key not in options else key)
        negated = options.get(key.removeprefix("no_")) if key.startswith("no_") and option is None else None
        following = words[0] if words else None
        if negated is not None and bool in negated.kinds and not equals:
            out.append(f"{negated.flag}=false")
        elif option is not None and bool in option.kinds and not equals:
            only = set(option.kinds) <= {bool, type(None)}
            taken = following is not None and (following.lower() in SWITCHES if only else not following.startswith("--"))
            out.append(f"{flag}={words.pop(0) if taken else 'true'}")
        elif option is not None and not equals and (following is None or (following.startswith("-") and not _is_value(following))):
            raise ConfigError(f"{flag} needs a value ({option.help.rstrip('.')}); one that begins with a hyphen: {flag}=-VALUE")
        else:
            out.append(f"{flag}={value or EMPTY}" if equals else flag)
    return out


SWITCHES = {"true", "false", "yes", "no", "none"}
"""Words behind an option that is on or off which can only be its value."""


def _is_value(word: str) -> bool:
    """Whether a word that begins with a hyphen is a value all the same: standard input, or a number."""
    return word == "-" or re.fullmatch(r"-\.?\d.*", word) is not None
