"""Records of Argilla and tasks of Label Studio: a response that people judged, or several that they compared.

What people did not send off (drafts, cancelled and discarded ones), and what models suggested, does not count.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from prefine.preferences.formats.conversations import ANSWERS, PROMPTS, asked_and_answered, asked_in, object_in, reply
from prefine.preferences.formats.format import Format, Row, Skip, number_of
from prefine.preferences.formats.thumbs import DIFFER, JUDGES, PEOPLE, UNCLEAR, UNRATED, rated, words_of
from prefine.preferences.records import Dropped, Labelled, Pair, Ranked

Vote: TypeAlias = Mapping[str, float]
"""What one person said of several responses: the higher the better."""
SIDE = re.compile(r"(response|answer|completion|output|text|generation|reply|candidate|summary)[\s_-]?(\d{1,2}|[a-h])", re.IGNORECASE)
"""Fields that hold one of several responses."""
CHOOSES = re.compile(r"best|better|prefer|choose|chosen|winner", re.IGNORECASE)
"""Questions of which a number is that of a response."""
ORDERS = re.compile(r"rank|order|sort|compar", re.IGNORECASE)
"""Questions, beside those, of which a list of all responses is their order: of others it may be that all were ticked."""


def sides_of(fields: Mapping[str, Any]) -> list[str]:
    """Names of the fields that hold responses to one prompt, in their order; none where there is but one."""
    found = sorted((name for name in fields if SIDE.fullmatch(name)), key=lambda name: (len(name), name))
    return found if len(found) > 1 else []


def compared(fields: Mapping[str, Any], responses: Mapping[str, Any], votes: Sequence[Vote], number: int, is_rated: bool) -> Pair | Ranked:
    """A prompt's responses in the order in which people put them.

    Args:
        fields: with the prompt; responses: by the names that votes use. is_rated: whether anybody said anything.

    Raises:
        Skip: nobody decided, or two people decided otherwise.
    """
    prompt = asked_in(fields)
    if not votes:
        raise Skip(UNCLEAR if is_rated else UNRATED)
    known = {name: text for name, text in responses.items() if text not in (None, "", [], {}) and all(name in vote for vote in votes)}
    votes = [{name: score for name, score in vote.items() if name in known} for vote in votes]
    if max(map(len, votes)) < 2:
        raise Skip("response is empty")
    if all(len(set(vote.values())) < 2 for vote in votes):
        raise Skip("a tie")
    for one, other in itertools.combinations(known, 2):
        both = [vote[one] - vote[other] for vote in votes]
        if min(both) < 0 < max(both):
            raise Skip(DIFFER)
    means = {name: sum(vote[name] for vote in votes) / len(votes) for name in known}
    names = sorted(means, key=lambda name: -means[name])
    answers = tuple(reply(known[name]) for name in names)
    if len(names) == 2:
        return Pair(prompt, answers[0], answers[1], number)
    return Ranked(prompt, answers, tuple(means[name] for name in names), number)


# ---- Argilla


def _columns(value: Any) -> list[dict[str, Any]]:
    """A list of objects, which a data set's table may hold as an object of lists."""
    if isinstance(value, Mapping) and value and all(isinstance(v, list) for v in value.values()):
        return [dict(zip(value, row, strict=False)) for row in zip(*value.values(), strict=False)]
    return [dict(item) for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _argilla_answers(row: Row) -> Iterator[tuple[str, Any]]:
    """Questions and what people answered, of all shapes in which versions of Argilla write them."""
    responses = row.get("responses")
    if isinstance(responses, Mapping):  # by question; drafts are not told from answers there but by the record
        if row.get("status") in ("pending", "draft", "discarded"):
            return
        for name, answers in responses.items():
            yield from ((name, a.get("value")) for a in _columns(answers) if _is_submitted(a))
    elif isinstance(responses, list):  # by annotator
        for answer in _columns(responses):
            values = answer.get("values") if _is_submitted(answer) else None
            yield from ((n, v.get("value")) for n, v in (values or {}).items() if isinstance(v, Mapping))
    for column in map(str, row):
        if column.endswith(".responses"):  # flat
            values, states = row[column] or [], row.get(f"{column}.status")
            states = states if isinstance(states, list) and len(states) == len(values) else ["submitted"] * len(values)
            yield from ((column[:-10], v) for v, state in zip(values, states, strict=True) if state == "submitted")
        elif _is_column(row[column]):  # of a data set on the Hub
            yield from ((column, a.get("value")) for a in _columns(row[column]) if _is_submitted(a))


def _is_submitted(answer: Mapping[str, Any]) -> bool:
    return bool(answer.get("status", "submitted") == "submitted")


def _is_column(value: Any) -> bool:
    """Whether a data set's cell holds people's answers, as Argilla 1 wrote them: objects of user, value and status, or their lists."""
    found = _columns(value)
    return bool(found) and all({"value", "status", "user_id"} <= item.keys() for item in found)


def _vote(question: str, value: Any, sides: Sequence[str]) -> Vote | None:
    """What an answer says of the responses: the name or the number of the best, or their order."""
    if isinstance(value, str):
        return {name: float(name == value) - 1 for name in sides} if value in sides else None
    if number_of(value) is not None:
        place = int(value) if CHOOSES.search(question) and float(value).is_integer() else 0
        return {name: float(i == place) - 1 for i, name in enumerate(sides, 1)} if 0 < place <= len(sides) else None
    is_order = ORDERS.search(question) or CHOOSES.search(question)
    if is_order and isinstance(value, list) and sorted(map(str, value)) == sorted(sides):
        return {name: -float(place) for place, name in enumerate(value)}
    ranks = [(item.get("value"), number_of(item.get("rank"))) for item in _columns(value)]
    return {str(name): -rank for name, rank in ranks if name in sides and rank is not None} or None


def _argilla(rows: Sequence[tuple[int, Row]]) -> Iterator[Pair | Ranked | Labelled]:
    for number, row in rows:
        nested = row.get("fields")
        fields: Mapping[str, Any] = nested if isinstance(nested, Mapping) else row
        opinions, sides = list(_argilla_answers(row)), sides_of(fields)
        if sides:
            votes = [vote for name, value in opinions if (vote := _vote(name, value, sides))]
            is_rated = any(value not in (None, "", []) for _, value in opinions)
            yield compared(fields, {name: fields[name] for name in sides}, votes, number, is_rated)
            continue
        # A number is one of several steps, and how many there are is not said.
        words = [(name, value if isinstance(value, str | bool) or value is None else [value]) for name, value in opinions]
        yield Labelled(*asked_and_answered(fields), rated(words, by_people=True), number)


ARGILLA_RECORDS = Format(
    "argilla-records",
    "records of Argilla: a prompt and a response (or a chat) with a question that is yes or no, or several responses, chosen or ranked",
    ("fields", "responses"),
    lambda r: (
        (isinstance(r.get("fields"), dict) and isinstance(r.get("responses"), dict | list))
        or any(str(c).endswith(".responses") and (isinstance(v, list) or (v is None and f"{c}.status" in r)) for c, v in r.items())
        or any(map(_is_column, r.values()))
    ),
    _argilla,
    reads=("status", "external_id", "_server_id", "id"),
)


# ---- Label Studio

OF_ANNOTATIONS = frozenset(("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"))
"""Columns of a flat export (JSON-MIN, CSV) that are of the annotation; it has a row for each."""


def _is_flat(row: Row) -> bool:
    return row.keys() >= OF_ANNOTATIONS


def _task(row: Row) -> str:
    """What the rows of a flat export's task have in common: its id, which another file may have, too, and its texts."""
    return repr([value for name, value in row.items() if name == "id" or name in (*PROMPTS, *ANSWERS) or SIDE.fullmatch(name)])


def _annotations(rows: Sequence[tuple[int, Row]]) -> tuple[dict[str, Any], list[list[tuple[str, str, Mapping[str, Any]]]]]:
    """A task's data, and of each annotation that counts the control's name, that of what it is about, and the value."""
    row = rows[0][1]
    if not _is_flat(row):
        done = [a for a in row.get("annotations", row.get("completions")) or () if isinstance(a, Mapping)]
        counted = [a.get("result") or () for a in done if not (a.get("was_cancelled") or a.get("skipped"))]
        items = [[i for i in result if isinstance(i, Mapping) and isinstance(i.get("value"), Mapping)] for result in counted]
        return row["data"], [[(str(i.get("from_name")), str(i.get("to_name")), i["value"]) for i in result] for result in items]
    data = {name: _listed(row.get(name)) for name in row if name not in OF_ANNOTATIONS}
    out = []
    for _, each in rows:
        found: list[tuple[str, str, Mapping[str, Any]]] = []
        for name, cell in each.items():
            value = object_in(cell)
            if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
                found += [(name, name, v) for v in value if v.keys() & {"selected", "rating", "ranker", "choices"}]
            elif isinstance(value, Mapping) and isinstance(value.get("choices"), list):
                found.append((name, name, value))
            elif isinstance(value, str) and words_of(name) & (PEOPLE | JUDGES):  # the task's own data are text, too
                found.append((name, name, {"choices": [value]}))
        out.append(found if each["annotation_id"] not in (None, "") else [])
    return data, out


def _listed(cell: Any) -> Any:
    """A cell as it is, or the list of items with ids that it holds as JSON text."""
    found = object_in(cell)
    return found if _is_items(found) else cell


def _is_items(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, Mapping) and "id" in i and "role" not in i for i in value)


def _orders(value: Any) -> Iterator[list[str]]:
    """What a ranker holds: the names in their order, by bucket; of those in no bucket the order means nothing."""
    if isinstance(value, list):
        yield [str(name) for name in value]
    elif isinstance(value, Mapping):
        yield from ([str(name) for name in names] for bucket, names in value.items() if bucket != "_" and isinstance(names, list))


def _label_studio(rows: Sequence[tuple[int, Row]]) -> Iterator[Pair | Ranked | Labelled | Dropped]:
    number = rows[0][0]
    data, annotations = _annotations(rows)
    sides = sides_of(data)
    votes, opinions, orders = [], [], []
    for annotation in annotations:
        stars: dict[str, dict[str, float]] = defaultdict(dict)  # by what was asked of each response
        for control, about, value in annotation:
            rating = number_of(value.get("rating"))
            if value.get("selected") in ("left", "right") and len(sides) == 2:
                votes.append({sides[0]: float(value["selected"] == "left"), sides[1]: float(value["selected"] == "right")})
            elif "ranker" in value:
                orders += [order for order in _orders(value["ranker"]) if len(order) > 1]
            elif rating is not None and sides:
                of = next((n for n in sides if about == n), None) or next((n for n in sides if _ending(control) == _ending(n)), None)
                if of is not None:
                    stars[control.removesuffix(_ending(control))][of] = rating
            elif rating is not None:
                if rating > 5:
                    raise Skip("more than five stars: how many there are is not known")
                if "likert" not in control.lower() and "scale" not in control.lower():
                    opinions.append((control, "three stars" if rating == 3 else "good" if rating > 3 else "bad"))
            for choice in value.get("choices") or ():
                if choice in sides:
                    votes.append({name: float(name == choice) - 1 for name in sides})
                elif isinstance(choice, str):
                    opinions.append((control, choice))
        votes += [given for given in stars.values() if len(given) == len(sides)]
    items = next(filter(_is_items, data.values()), None)
    if items is not None:
        yield from _ranked(data, items, orders, rows[0])
    elif sides:
        yield compared(data, {name: data[name] for name in sides}, votes, number, any(annotations))
    else:
        yield Labelled(*asked_and_answered(data), rated(opinions, by_people=True), number)


def _ending(name: str) -> str:
    """The number or letter that a name ends with."""
    found = re.search(r"(\d{1,2}|(?<![A-Za-z])[a-hA-H])$", name)
    return found[0].lower() if found else name


def _ranked(
    data: Mapping[str, Any], items: Sequence[Mapping[str, Any]], orders: Sequence[Sequence[str]], row: tuple[int, Row]
) -> Iterator[Pair | Ranked | Dropped]:
    """Responses of a list in the orders that people gave them; those of different buckets are not compared."""
    texts = {str(i["id"]): next((i[n] for n in ("body", "text", "content", "answer") if i.get(n)), None) for i in items}
    together: dict[frozenset[str], list[Vote]] = defaultdict(list)
    for order in orders:
        known = [name for name in order if name in texts]
        if len(known) > 1:
            together[frozenset(known)].append({name: -float(place) for place, name in enumerate(known)})
    if not together:
        raise Skip(UNRATED)
    for votes in together.values():
        try:
            yield compared(data, texts, votes, row[0], is_rated=True)
        except Skip as skip:
            yield Dropped(row[0], str(skip), row[1])


LABEL_STUDIO = Format(
    "label-studio",
    "tasks of Label Studio (JSON, JSON-MIN, CSV): a prompt and a response (or a dialogue) with choices or stars of five, or several "
    "responses, compared or ranked",
    ("data", "annotations"),
    lambda r: (
        (isinstance(r.get("data"), dict) and (isinstance(r.get("annotations"), list) or isinstance(r.get("completions"), list)))
        or _is_flat(r)
    ),
    _label_studio,
    gather=lambda r: _task(r) if _is_flat(r) else id(r),
    reads=(*OF_ANNOTATIONS, "_data_rating"),
)
