"""Records of Argilla and tasks of Label Studio: a response that people judged, or several that they compared.

What people did not send off (drafts, cancelled and discarded ones), and what models suggested, does not count.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from prefine.preferences.formats.conversations import PROMPTS, asked_and_answered, conversation, object_in, reply
from prefine.preferences.formats.format import Format, Row, Skip, number_of
from prefine.preferences.formats.thumbs import DIFFER, PEOPLE, TWO_STEPS, UNRATED, rated, words_of
from prefine.preferences.records import Labelled, Pair, Ranked

Vote: TypeAlias = Mapping[str, float]
"""What one person said of several responses: the higher the better."""
SIDE = re.compile(r"(response|answer|completion|output|text|generation|reply|candidate|summary)[\s_-]?(\d{1,2}|[a-h])", re.IGNORECASE)
"""Fields that hold one of several responses."""
CHOOSES = re.compile(r"best|better|prefer|choose|chosen|winner", re.IGNORECASE)
"""Questions of which a number is that of a response."""


def sides_of(fields: Mapping[str, Any]) -> list[str]:
    """Names of the fields that hold responses to one prompt, in their order; none where there is but one."""
    found = sorted((name for name in fields if SIDE.fullmatch(name)), key=lambda name: (len(name), name))
    return found if len(found) > 1 else []


def compared(fields: Mapping[str, Any], responses: Mapping[str, Any], votes: Sequence[Vote], number: int) -> Pair | Ranked:
    """A prompt's responses in the order in which people put them.

    Args:
        fields: with the prompt; responses: by the names that votes use.

    Raises:
        Skip: nobody decided, or two people decided otherwise.
    """
    asked = next((fields[name] for name in PROMPTS if fields.get(name)), None)
    if asked is None:
        raise Skip("no prompt among its fields")
    if not votes:
        raise Skip(UNRATED)
    known = {name: text for name, text in responses.items() if text not in (None, "", [], {})}
    votes = [{name: score for name, score in vote.items() if name in known} for vote in votes]
    if max(map(len, votes)) < 2:
        raise Skip("response is empty")
    if all(len(set(vote.values())) < 2 for vote in votes):
        raise Skip("a tie")
    for one, other in itertools.combinations(known, 2):
        both = [vote[one] - vote[other] for vote in votes if one in vote and other in vote]
        if both and min(both) < 0 < max(both):
            raise Skip(DIFFER)
    scores = {name: [vote[name] for vote in votes if name in vote] for name in known}
    means = {name: sum(given) / len(given) for name, given in scores.items() if given}
    names = sorted(means, key=lambda name: -means[name])
    prompt, answers = conversation(object_in(asked)), tuple(reply(known[name]) for name in names)
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
        return {name: float(name == value) for name in sides} if value in sides else None
    if number_of(value) is not None:
        place = int(value) if CHOOSES.search(question) and float(value).is_integer() else 0
        return {name: float(i == place) for i, name in enumerate(sides, 1)} if 0 < place <= len(sides) else None
    if isinstance(value, list) and value and all(isinstance(name, str) and name in sides for name in value):
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
            yield compared(fields, {name: fields[name] for name in sides}, votes, number)
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
        or any(str(c).endswith(".responses") for c in r)
        or any(map(_is_column, r.values()))
    ),
    _argilla,
    reads=("status", "external_id", "_server_id", "id"),
)


# ---- Label Studio

OF_ANNOTATIONS = frozenset(("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"))
"""Columns of a flat export (JSON-MIN, CSV) that are of the annotation; it has a row for each."""
JUDGES = frozenset(("verdict", "quality", "choice", "judgement", "judgment", "evaluation", "assessment", "grade", "helpful", "helpfulness"))
"""In the names of columns of a flat export that hold a choice, where the task's own data hold text, too."""


def _is_flat(row: Row) -> bool:
    return row.keys() >= OF_ANNOTATIONS


def _annotations(rows: Sequence[tuple[int, Row]]) -> tuple[dict[str, Any], list[list[tuple[str, str, Mapping[str, Any]]]]]:
    """A task's data, and of each annotation that counts the control's name, that of what it is about, and the value."""
    row = rows[0][1]
    if not _is_flat(row):
        done = [a for a in row.get("annotations", row.get("completions")) or () if isinstance(a, Mapping)]
        counted = [a.get("result") or () for a in done if not (a.get("was_cancelled") or a.get("skipped"))]
        items = [[i for i in result if isinstance(i, Mapping) and isinstance(i.get("value"), Mapping)] for result in counted]
        return row["data"], [[(str(i.get("from_name")), str(i.get("to_name")), i["value"]) for i in result] for result in items]
    data = {name: object_in(value) for name, value in row.items() if name not in OF_ANNOTATIONS}
    out = []
    for _, each in rows:
        found: list[tuple[str, str, Mapping[str, Any]]] = []
        for name, cell in each.items():
            value = object_in(cell)
            if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
                found += [(name, name, v) for v in value if v.keys() & {"selected", "rating", "ranker", "choices"}]
            elif isinstance(value, Mapping) and isinstance(value.get("choices"), list):
                found.append((name, name, value))
            elif isinstance(value, str) and words_of(name) & (PEOPLE | TWO_STEPS | JUDGES):
                found.append((name, name, {"choices": [value]}))
        out.append(found if each["annotation_id"] not in (None, "") else [])
    return data, out


def _orders(value: Any) -> Iterator[list[str]]:
    """What a ranker holds: the names in their order, by bucket; of those in no bucket the order means nothing."""
    if isinstance(value, list):
        yield [str(name) for name in value]
    elif isinstance(value, Mapping):
        yield from ([str(name) for name in names] for bucket, names in value.items() if bucket != "_" and isinstance(names, list))


def _label_studio(rows: Sequence[tuple[int, Row]]) -> Iterator[Pair | Ranked | Labelled]:
    number = rows[0][0]
    data, annotations = _annotations(rows)
    sides = sides_of(data)
    votes, opinions, orders = [], [], []
    for annotation in annotations:
        stars: dict[str, float] = {}
        for control, about, value in annotation:
            rating = number_of(value.get("rating"))
            if value.get("selected") in ("left", "right") and len(sides) == 2:
                votes.append({sides[0]: float(value["selected"] == "left"), sides[1]: float(value["selected"] == "right")})
            elif "ranker" in value:
                orders += [order for order in _orders(value["ranker"]) if len(order) > 1]
            elif rating is not None and sides:
                stars |= {name: rating for name in sides if about == name or _ending(control) == _ending(name)}
            elif rating is not None:
                if rating > 5:
                    raise Skip("more than five stars: how many there are is not known")
                if "likert" not in control.lower() and "scale" not in control.lower():
                    opinions.append((control, "three stars" if rating == 3 else rating > 3))
            opinions += [(control, choice) for choice in value.get("choices") or () if isinstance(choice, str)]
        votes += [stars] if len(stars) == len(sides) > 0 else []
    listed = [v for v in data.values() if isinstance(v, list) and v and all(isinstance(i, Mapping) and "id" in i for i in v)]
    if listed and "role" not in listed[0][0]:
        yield from _ranked(data, listed[0], orders, number)
    elif sides:
        yield compared(data, {name: data[name] for name in sides}, votes, number)
    else:
        yield Labelled(*asked_and_answered(data), rated(opinions, by_people=True), number)


def _ending(name: str) -> str:
    """The number or letter that a name ends with."""
    found = re.search(r"(\d{1,2}|(?<![A-Za-z])[a-hA-H])$", name)
    return found[0].lower() if found else name


def _ranked(
    data: Mapping[str, Any], items: Sequence[Mapping[str, Any]], orders: Sequence[Sequence[str]], number: int
) -> Iterator[Pair | Ranked]:
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
        yield compared(data, texts, votes, number)


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
    gather=lambda r: r["id"] if _is_flat(r) else id(r),
    reads=(*OF_ANNOTATIONS, "_data_rating"),
)
