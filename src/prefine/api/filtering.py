"""Without rows that a check of the audit finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.selecting import SelectOptions, Written, select
from prefine.audit.check import ROW_CHECKS
from prefine.audit.row_checks import flags
from prefine.errors import ConfigError, nearest
from prefine.preferences.convert import answers_of
from prefine.preferences.records import Pair, Record, plain_text

NAMES = [check.name for check in ROW_CHECKS]


@dataclass
class FilterOptions(SelectOptions):
    """Options of ``prefine data filter``."""

    drop: list[str] | None = field(default=None, metadata={"help": f"Checks whose rows go: {', '.join(NAMES)}."})
    min_score_gap: float | None = field(default=None, metadata={"help": "Minimum difference of a pair's scores; pairs without scores go."})
    min_words: int | None = field(default=None, metadata={"help": "Minimum words of a response."})
    max_words: int | None = field(default=None, metadata={"help": "Maximum words of a response."})
    model: str | None = field(
        default=None,
        metadata={"help": "Also drop rows that this model's chat template refuses or writes in part."},
    )
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "model: what its chat template is given beside the messages: enable_thinking=false."}
    )


@call(FilterOptions, positional=("source",), rest=True)
def filter_rows(given: FilterOptions, progress: Progress) -> Written:
    """Leave out rows that a check of the audit finds, or by score and length.

    Raises:
        PrefineError: no such check, nothing to do, a source that cannot be read, or of which nothing is left.
    """
    names = set(given.drop or [])
    for name in names - set(NAMES):
        raise ConfigError(f"--drop {name}: no such check of one row{nearest(name, NAMES)} Checks: {', '.join(NAMES)}")
    if given.chat_template_kwargs is not None and given.model is None:
        raise ConfigError("--chat-template-kwargs is for --model's template; give --model too")
    if not names and given.model is None and given.min_score_gap is None and given.min_words is None and given.max_words is None:
        raise ConfigError("data filter has nothing to do: give --drop, --model, --min-score-gap, --min-words or --max-words")
    refused = _template(given)
    return select(given, "filter", lambda record: refused(record) or _reason(record, given, names))


def _template(given: FilterOptions) -> Callable[[Record], str | None]:
    """Why a model's chat template cannot write a record whole, or None where it can or no model is given."""
    if given.model is None:
        return lambda record: None
    from prefine.packing.encoding import Encoder
    from prefine.packing.rendering import LeftOut
    from prefine.scoring.loading import load_tokenizer

    encoder = Encoder(load_tokenizer(given.model, template_kwargs=given.chat_template_kwargs))

    def reason(record: Record) -> str | None:
        try:
            encoder.render(record.prompt, answers_of(record), record.tools, record.template_kwargs)
        except LeftOut as left:
            return left.reason
        return None

    return reason


def _reason(record: Record, given: FilterOptions, names: set[str]) -> str | None:
    found = next((f for f in flags(record) if f in names), None) if names else None
    if found is not None:
        return found
    if given.min_score_gap is not None:
        if not isinstance(record, Pair) or record.scores is None:
            return "no scores"
        if record.scores[0] - record.scores[1] < given.min_score_gap:
            return "scores too close"
    sizes = [len(plain_text(a).split()) for a in answers_of(record)]
    if given.min_words is not None and min(sizes) < given.min_words:
        return "response too short"
    return "response too long" if given.max_words is not None and max(sizes) > given.max_words else None
