"""Traces of Langfuse and LangSmith, with what people and graders said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefine.preferences.formats.conversations import conversation, object_in, reply
from prefine.preferences.formats.format import Format, Row, Skip, number_of, one
from prefine.preferences.formats.thumbs import DIFFER, UNCLEAR, UNRATED, rated, thumb
from prefine.preferences.records import Labelled

OF_TRACES = frozenset((
    "bookmarked", "comments", "completionStartTime", "costDetails", "createdAt", "endTime", "environment", "htmlPath", "id",
    "input", "inputCost", "inputPrice", "inputUsage", "internalModelId", "latency", "level", "metadata", "model", "modelId",
    "modelParameters", "name", "observations", "output", "outputCost", "outputPrice", "outputUsage", "parentObservationId",
    "projectId", "promptId", "promptName", "promptVersion", "providedCostDetails", "providedUsageDetails", "public", "release",
    "scores", "sessionId", "startTime", "statusMessage", "tags", "timeToFirstToken", "timestamp", "toolCallNames", "toolCalls",
    "toolCallsCount", "toolDefinitions", "toolDefinitionsCount", "totalCost", "totalPrice", "totalUsage", "traceId",
    "traceName", "traceTags", "traceTimestamp", "type", "updatedAt", "usageDetails", "usagePricingTierId",
    "usagePricingTierName", "userId", "version",
))  # fmt: skip
"""Columns of traces and observations; in exports of their tables each score is a column beside these, named after it."""


def _langfuse(row: Row, number: int) -> Labelled:
    if isinstance(row.get("scores"), list):
        if any(isinstance(score, str) for score in row["scores"]):
            raise Skip("its scores are in another file")
        label = _said(row["scores"])
    else:
        scores: list[tuple[str, Any]] = []
        for name in row.keys() - OF_TRACES:
            values = object_in(row[name])
            scores += [(name, value) for value in (values if isinstance(values, list) else ())]
        label = rated(scores)
    if row.get("level") == "ERROR" or row["output"] in (None, ""):
        raise Skip("the model gave no response")
    asked = object_in(row["input"])
    # Where a table holds what an application was asked as an object in text, it holds its answer so; else JSON is what a model wrote.
    is_written = isinstance(row["input"], str) and isinstance(asked, dict) and "messages" not in asked
    answered = object_in(row["output"]) if is_written else row["output"]
    return Labelled(conversation(asked), reply(answered), label, number)


def _said(scores: Sequence[Mapping[str, Any]]) -> bool:
    """What scores say: those of annotators before those that came by the API, and these before an evaluator's.

    Raises:
        Skip: as :func:`rated`.
    """
    by_source: dict[str, list[tuple[str, Any]]] = {"ANNOTATION": [], "API": [], "EVAL": []}
    for score in scores:
        if score.get("dataType") in ("TEXT", "CORRECTION"):
            continue
        value = score.get("value") if score.get("value") is not None else score.get("stringValue")
        value = thumb(value) if score.get("dataType") == "BOOLEAN" else score.get("stringValue") or value
        by_source.setdefault(str(score.get("source") or "API"), []).append((str(score.get("name")), value))
    left = UNRATED
    for each in by_source.values():
        try:
            return rated(each)
        except Skip as skip:
            if str(skip) not in (UNRATED, UNCLEAR):
                raise
            left = str(skip) if left == UNRATED else left
    raise Skip(left)


def _is_langfuse(row: Row) -> bool:
    if not {"input", "output"} <= row.keys():
        return False
    scores = row.get("scores")
    if isinstance(scores, list):
        known = [isinstance(s, dict) and "name" in s and bool({"value", "stringValue"} & s.keys()) for s in scores]
        return all(known) if any(known) else all(isinstance(s, str) for s in scores) and _is_trace(row)
    return "environment" in row and _is_trace(row)


def _is_trace(row: Row) -> bool:
    return {"id", "name"} <= row.keys() and not row.keys().isdisjoint(("timestamp", "startTime"))


LANGFUSE = Format(
    "langfuse",
    "traces or observations of Langfuse: input, output, and scores with name and value, or a column for each score",
    ("input", "output", "scores"),
    _is_langfuse,
    one(_langfuse),
    reads=tuple(OF_TRACES),
)


def _experiment(row: Row) -> Row:
    """A row of an experiment's table, which has a column for each field, as a run."""

    def of(*names: str) -> dict[str, Any]:
        return {str(c).partition(".")[2]: v for c, v in row.items() if str(c).startswith(names) and v not in (None, "")}

    feedback = [{"key": key, "score": value} for key, value in of("feedback.").items()]
    return {"inputs": of("input.", "inputs."), "outputs": of("output.", "outputs."), "feedback": feedback, "error": row.get("error")}


def _is_experiment(row: Row) -> bool:
    return all(any(str(c).startswith(names) for c in row) for names in (("input.", "inputs."), ("output.", "outputs."), "feedback."))


def _langsmith(row: Row, number: int) -> Labelled:
    row = _experiment(row) if _is_experiment(row) else row
    if row.get("error"):
        raise Skip("the model gave no response")
    scores: list[tuple[str, Any]] = []
    for item in row.get("feedback") or ():
        if isinstance(item, Mapping):
            scores.append((str(item.get("key")), item.get("score") if item.get("score") is not None else item.get("value")))
    stats = object_in(row.get("feedback_stats"))
    for key, found in stats.items() if isinstance(stats, dict) and not scores else ():
        if isinstance(found, Mapping) and found.get("n"):
            # A mean of which the parts differ lies between yes and no, also where they are 1 and -1.
            scores.append((str(key), 0.5 if number_of(found.get("stdev")) else found.get("avg")))
            if number_of(found.get("avg")) is None:  # of words, each with how many said it
                scores[-1:] = [(str(key), word) for word in found.get("values") or ()]
    if isinstance(stats, dict) and scores and all(thumb(value) is None and number_of(value) is not None for _, value in scores):
        raise Skip(DIFFER)  # a mean between yes and no
    return Labelled(conversation(object_in(row["inputs"])), reply(object_in(row["outputs"])), rated(scores), number)


LANGSMITH = Format(
    "langsmith",
    "runs of LangSmith with feedback (key, score) or feedback_stats: inputs, outputs; or an experiment's table, a column a field",
    ("inputs", "outputs", "feedback_stats"),
    lambda r: (
        (isinstance(object_in(r.get("inputs")), dict) and "outputs" in r and bool({"feedback_stats", "feedback"} & r.keys()))
        or _is_experiment(r)
    ),
    one(_langsmith),
    reads=("error", "feedback"),
)
