"""What chat and evaluation tools export of people's and graders' opinions on single responses: thumbs, passes, choices.

A response of which opinions differ, or of which nobody said anything that is yes or no, is dropped with that reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefine.preferences.cells import read_message
from prefine.preferences.formats.format import Format, Row, Skip, is_messages, messages_of, number_of, one, user
from prefine.preferences.records import Labelled, Message

GOOD = frozenset(
    (
        *("good", "great", "yes", "true", "pass", "passed", "correct", "right", "like", "liked", "up", "positive", "helpful"),
        *("accept", "accepted", "approve", "approved", "desirable", "👍"),
    )
)
BAD = frozenset(
    (
        *("bad", "poor", "no", "false", "fail", "failed", "incorrect", "wrong", "dislike", "disliked", "down", "negative", "unhelpful"),
        *("reject", "rejected", "undesirable", "👎"),
    )
)
BESIDE = frozenset(("a", "an", "the", "answer", "response", "reply", "thumb", "thumbs", "this", "is", "was", "very", "vote", "voted"))
"""Words that may stand beside one that decides."""
PROMPTS = ("messages", "conversation", "chat", "dialogue", "prompt", "instruction", "question", "query", "input", "text")
HISTORIES = ("chat_history", "history")
ANSWERS = ("response", "completion", "answer", "output", "generation", "reply", "message")
TELLING = ("feedback", "thumb", "user", "rating", "human")
"""In the names of scores: those that people gave go before those of graders."""
THUMBS = ("feedback", "thumb", "user", "human", "like", "vote", "pass", "correct", "accept", "approv")
SCALES = ("star", "rating", "likert", "scale", "1-5", "1_5", "nps")
FAULTS = ("halluc", "toxic", "bias", "error", "harm", "fail", "refus", "unsafe", "risk", "offens", "wrong", "incorrect", "problem", "issue")
"""In their names: numbers that are 1 or 0; numbers of more steps; yes where something is bad."""
REASONING = re.compile(r'<details type="reasoning"[^>]*>\s*(?:<summary>.*?</summary>)?(.*?)</details>\s*', re.DOTALL)
LANGCHAIN = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}


def thumb(value: Any) -> bool | None:
    """What a value says of a response: True, False, or None where it is neither yes nor no."""
    if isinstance(value, bool):
        return value
    number = number_of(value)
    if number is not None:
        return {1.0: True, 0.0: False, -1.0: False}.get(number)
    if not isinstance(value, str):
        return None
    words = [word for word in re.split(r"[\s_\-/]+", value.strip().lower().rstrip(".!")) if word] if len(value) <= 60 else []
    if not words or "not" in words:
        return None
    found = {True for w in words if w in GOOD} | {False for w in words if w in BAD}
    known = all(w in GOOD | BAD | BESIDE for w in words)
    return found.pop() if known and len(found) == 1 else None


def agreed(opinions: Iterable[Any]) -> bool:
    """What all opinions that are yes or no say.

    Raises:
        Skip: there are none, or they differ.
    """
    found = {known for value in opinions if (known := thumb(value)) is not None}
    if not found:
        raise Skip("no rating that is yes or no")
    if len(found) > 1:
        raise Skip("its ratings differ")
    return found.pop()


def by_people(scores: Sequence[tuple[str, Any]]) -> list[Any]:
    """What named scores say of a response: of those that people gave, where some names say so, else of all.

    A number is a thumb only where its name says so: 1 may be one star, or a grader's certainty. What a name says of faults
    (toxicity, hallucination) is no opinion of the response, since yes means no there.
    """
    fitting = [(name.lower(), value) for name, value in scores if not any(word in name.lower() for word in FAULTS)]
    known = [
        (name, value)
        for name, value in fitting
        if isinstance(value, bool)
        or number_of(value) is None
        or (any(word in name for word in THUMBS) and not any(word in name for word in SCALES))
    ]
    told = [value for name, value in known if any(word in name for word in TELLING)]
    return told or [value for _, value in known]


def _message(value: Any) -> Any:
    """A message of OpenAI's or LangChain's shape as ours; anything else as it is."""
    if isinstance(value, Mapping) and value.get("lc") and isinstance(value.get("kwargs"), Mapping):
        kind = str((value.get("id") or [""])[-1])
        value = {"type": kind.removesuffix("Chunk").removesuffix("Message").lower() or kind, **value["kwargs"]}
    if isinstance(value, Mapping) and isinstance(value.get("data"), Mapping) and isinstance(value.get("type"), str):
        value = {**value["data"], "type": value["type"]}
    if isinstance(value, Mapping) and "role" not in value and isinstance(value.get("type"), str) and "content" in value:
        more = value.get("additional_kwargs") or {}
        calls = (more.get("tool_calls") if isinstance(more, Mapping) else None) or [_call(c) for c in value.get("tool_calls") or ()]
        beside = {"tool_calls": calls} if calls else {}
        beside |= {"tool_call_id": value["tool_call_id"]} if value.get("tool_call_id") else {}
        value = {"role": LANGCHAIN.get(value["type"], value["type"]), "content": value["content"]} | beside
    if isinstance(value, Mapping) and isinstance(value.get("author"), str) and isinstance(value.get("text"), str):
        value = {"role": value["author"], "content": value["text"]}  # Label Studio's paragraphs
    return read_message(dict(value), lambda note: None) if isinstance(value, Mapping) and isinstance(value.get("role"), str) else value


def _call(call: Any) -> Any:
    """LangChain's call as OpenAI's."""
    if not isinstance(call, Mapping) or "name" not in call:
        return call
    return {"type": "function", "function": {"name": call["name"], "arguments": call.get("args") or {}}}


def conversation(value: Any) -> tuple[Message, ...]:
    """What was asked: text, messages, or an object that holds either.

    Raises:
        Skip: none of these.
    """
    if isinstance(value, str):
        parsed = _parsed(value)
        if isinstance(parsed, dict) and "messages" in parsed:
            return conversation(parsed)
        return conversation(parsed) if isinstance(parsed, list) and is_messages([_message(m) for m in parsed]) else (user(value),)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return conversation(value[0])  # LangChain's batches
    if isinstance(value, list) and value:
        return messages_of([_message(m) for m in value], "what was asked is not readable")
    if isinstance(value, Mapping):
        read = _message(value)
        if isinstance(read.get("role"), str):
            return messages_of([read])
        name = next((name for name in PROMPTS if value.get(name)), None) or (next(iter(value)) if len(value) == 1 else None)
        if name is not None:
            before = next((value[n] for n in HISTORIES if n != name and value.get(n)), None)
            asked = conversation(value[name])
            if isinstance(value.get("context"), str) and name != "context" and isinstance(asked[-1]["content"], str):
                asked = (*asked[:-1], asked[-1] | {"content": f"{asked[-1]['content']}\n{value['context']}"})
            return (*conversation(before), *asked) if before else asked
    raise Skip("what was asked is not readable")


def reply(value: Any) -> tuple[Message, ...]:
    """What was answered: text, a message, messages of which the last is taken, or an object that holds one of them.

    Raises:
        Skip: none of these.
    """
    if isinstance(value, str):
        parsed = _parsed(value)
        if isinstance(parsed, dict) and parsed.keys() & {"role", "choices", "generations"}:
            return reply(parsed)
        return ({"role": "assistant", "content": value},)
    if isinstance(value, list) and value:
        return reply(value[-1])
    if isinstance(value, Mapping):
        read = _message(value)
        if isinstance(read.get("role"), str):
            return messages_of([read])
        inner = value.get("choices") or value.get("generations")
        if isinstance(inner, list) and inner:
            return reply(inner[0])
        for name in ("message", *ANSWERS, "messages", "text", "content"):
            if value.get(name):
                return reply(value[name])
        if len(value) == 1:
            return reply(next(iter(value.values())))
    raise Skip("the response is not readable")


def _parsed(text: str) -> Any:
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> Any:
    """An object, which a table may hold as JSON text."""
    return _parsed(value) if isinstance(value, str) else value


def _asked_and_answered(fields: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Prompt and response of named fields; of a conversation alone its last turn is the response."""
    asked = next((fields[name] for name in PROMPTS if fields.get(name)), None)
    answered = next((fields[name] for name in ANSWERS if fields.get(name)), None)
    if asked is None:
        raise Skip("no prompt among its fields")
    messages = conversation(asked)
    if answered is not None:
        return messages, reply(answered)
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise Skip("no response among its fields")
    return messages[:-1], messages[-1:]


# ---- Open WebUI


def _open_webui(row: Row, number: int) -> Labelled:
    label = agreed([row["data"].get("rating")])
    chat: Any = row["snapshot"]
    holders = [chat]
    while isinstance(chat.get("chat"), Mapping):
        chat = chat["chat"]
        holders.append(chat)
    histories = [h["history"]["messages"] for h in holders if isinstance(h.get("history"), Mapping) and h["history"].get("messages")]
    nodes = histories[0] if histories else {}
    nodes = {m.get("id"): m for m in nodes if isinstance(m, Mapping)} if isinstance(nodes, list) else nodes
    place, path, seen = row["meta"].get("message_id"), [], set()
    while place is not None and isinstance(nodes, Mapping) and isinstance(nodes.get(place), Mapping) and place not in seen:
        seen.add(place)
        path.append(nodes[place])
        place = nodes[place].get("parentId")
    if not path or place is not None or path[0].get("role") != "assistant":
        raise Skip("the rated response is not in its snapshot")
    if any(str(f.get("type")) == "image" for m in path for f in m.get("files") or () if isinstance(f, Mapping)):
        raise Skip("holds images or other parts that are not text; only text is trained on")
    systems = [system for h in holders for system in (h.get("system"), (h.get("params") or {}).get("system"))]
    system = next((text for text in systems if isinstance(text, str) and text.strip()), None)
    messages = messages_of([_with_reasoning(m) for m in reversed(path)])
    head = ({"role": "system", "content": system},) if system and messages[0]["role"] != "system" else ()
    return Labelled((*head, *messages[:-1]), messages[-1:], label, number)


def _with_reasoning(message: Mapping[str, Any]) -> Message:
    """A message whose reasoning, which is written into its text, is a field of its own."""
    content = message.get("content")
    if not isinstance(content, str):
        return {"role": message.get("role"), "content": content}
    if '<details type="' in REASONING.sub("", content):
        raise Skip("holds tool calls that are written into its text")
    found = [re.sub(r"^> ?", "", part.strip(), flags=re.MULTILINE) for part in REASONING.findall(content)]
    reasoning = {"reasoning_content": "\n".join(found)} if found else {}
    return {"role": message.get("role"), "content": REASONING.sub("", content).strip() if found else content} | reasoning


OPEN_WEBUI = Format(
    "open-webui",
    "feedback of Open WebUI: data.rating 1 or -1, meta.message_id, the chat as a snapshot",
    ("data", "meta", "snapshot"),
    lambda r: all(isinstance(r.get(n), dict) for n in ("data", "meta", "snapshot")) and "message_id" in r["meta"] and "rating" in r["data"],
    one(_open_webui),
)


# ---- graders


def _promptfoo(result: Row, number: int) -> Labelled:
    response = result.get("response")
    if not isinstance(response, Mapping) or response.get("error") or result.get("failureReason") == 2 or response.get("output") is None:
        raise Skip("the model gave no response")
    prompt, output = result.get("prompt") or {}, response["output"]
    raw = prompt.get("raw") if isinstance(prompt, Mapping) else prompt
    answered = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    graded = result.get("gradingResult") or {}
    if isinstance(graded, Mapping) and str(graded.get("reason")).startswith("No assertions"):
        raise Skip("nothing was checked")
    label = agreed([graded.get("pass", result.get("success")) if isinstance(graded, Mapping) else result.get("success")])
    return Labelled(conversation(raw), reply(answered), label, number)


PROMPTFOO = Format(
    "promptfoo",
    "results of promptfoo eval (.json, .jsonl): prompt.raw, response.output, gradingResult.pass",
    ("prompt", "response", "gradingResult"),
    lambda r: isinstance(r.get("prompt"), dict) and isinstance(r.get("response"), dict) and bool({"gradingResult", "success"} & r.keys()),
    one(_promptfoo),
    reads=("success", "failureReason"),
)


def _openai_evals(row: Row, number: int) -> Labelled:
    sample: Any = row.get("sample") if isinstance(row.get("sample"), dict) else {}
    if sample.get("error") or not sample.get("output"):
        raise Skip("the model gave no response")
    asked = sample.get("input") or row.get("datasource_item")
    verdicts = [r["passed"] for r in row.get("results") or () if isinstance(r, Mapping) and isinstance(r.get("passed"), bool)]
    label = agreed([all(verdicts)] if verdicts else [row.get("status")])
    return Labelled(conversation(asked), reply(sample["output"]), label, number)


OPENAI_EVALS = Format(
    "openai-evals",
    "output items of an OpenAI eval's run: sample.input, sample.output, results with passed",
    ("object", "sample", "results"),
    lambda r: r.get("object") == "eval.run.output_item",
    one(_openai_evals),
    reads=("status", "datasource_item"),
)


# ---- traces


def _langfuse(row: Row, number: int) -> Labelled:
    scores = []
    for score in row["scores"]:
        value = score.get("value") if score.get("value") is not None else score.get("stringValue")
        value = thumb(value) if score.get("dataType") == "BOOLEAN" else score.get("stringValue") or value
        scores.append((str(score.get("name")), value))
    return Labelled(conversation(row["input"]), reply(row["output"]), agreed(by_people(scores)), number)


LANGFUSE = Format(
    "langfuse",
    "traces or observations of Langfuse with their scores: input, output, scores with name and value",
    ("input", "output", "scores"),
    lambda r: (
        {"input", "output"} <= r.keys()
        and isinstance(r.get("scores"), list)
        and bool(r["scores"])
        and all(isinstance(s, dict) and "name" in s and {"value", "stringValue"} & s.keys() for s in r["scores"])
    ),
    one(_langfuse),
)


def _langsmith(row: Row, number: int) -> Labelled:
    if row.get("error"):
        raise Skip("the model gave no response")
    scores: list[tuple[str, Any]] = []
    for item in row.get("feedback") or ():
        if isinstance(item, Mapping):
            scores.append((str(item.get("key")), item.get("score") if item.get("score") is not None else item.get("value")))
    stats = _object(row.get("feedback_stats"))
    for key, found in stats.items() if isinstance(stats, dict) and not scores else ():
        if isinstance(found, Mapping) and found.get("n"):
            scores.append((str(key), found.get("avg")))
            if number_of(found.get("avg")) is None:  # of words, each with how many said it
                scores[-1:] = [(str(key), word) for word in found.get("values") or ()]
    if isinstance(stats, dict) and scores and all(thumb(value) is None and number_of(value) is not None for _, value in scores):
        raise Skip("its ratings differ")  # a mean between yes and no
    return Labelled(conversation(_object(row["inputs"])), reply(_object(row["outputs"])), agreed(by_people(scores)), number)


LANGSMITH = Format(
    "langsmith",
    "runs of LangSmith with feedback (key, score) or feedback_stats: inputs, outputs",
    ("inputs", "outputs", "feedback_stats"),
    lambda r: isinstance(_object(r.get("inputs")), dict) and "outputs" in r and bool({"feedback_stats", "feedback"} & r.keys()),
    one(_langsmith),
    reads=("error", "feedback"),
)


# ---- annotation


def _argilla(row: Row, number: int) -> Labelled:
    opinions: list[tuple[str, Any]] = []
    responses = row.get("responses")
    if isinstance(responses, dict):  # by question
        opinions = [(name, a.get("value")) for name, answers in responses.items() for a in answers if _submitted(a)]
    elif isinstance(responses, list):  # by annotator
        answered = [(a.get("values") or {}).items() for a in responses if _submitted(a)]
        opinions = [(name, v.get("value")) for items in answered for name, v in items if isinstance(v, Mapping)]
    for column in [str(c) for c in row if str(c).endswith(".responses")]:  # flat
        values, states = row[column] or [], row.get(f"{column}.status")
        states = states if isinstance(states, list) and len(states) == len(values) else ["submitted"] * len(values)
        opinions += [(column, value) for value, state in zip(values, states, strict=True) if state == "submitted"]
    words = [(name, value) for name, value in opinions if isinstance(value, str | bool)]  # a number is one of several steps
    fields = row.get("fields")
    return Labelled(*_asked_and_answered(fields if isinstance(fields, dict) else row), agreed(by_people(words)), number)


def _submitted(answer: Any) -> bool:
    return isinstance(answer, Mapping) and answer.get("status", "submitted") == "submitted"


ARGILLA_RECORDS = Format(
    "argilla-records",
    "records of Argilla: fields with a prompt and a response (or a chat), responses to a question that is yes or no",
    ("fields", "responses"),
    lambda r: (
        (isinstance(r.get("fields"), dict) and isinstance(r.get("responses"), dict | list))
        or any(str(c).endswith(".responses") and isinstance(v, list) for c, v in r.items())
    ),
    one(_argilla),
)


def _label_studio(row: Row, number: int) -> Labelled:
    opinions: list[tuple[str, Any]] = []
    for annotation in row["annotations"]:
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled"):
            continue
        for item in annotation.get("result") or ():
            value = item.get("value") if isinstance(item, Mapping) else None
            if isinstance(value, Mapping):
                name, stars = str(item.get("from_name")), number_of(value.get("rating"))
                opinions += [(name, choice) for choice in value.get("choices") or ()]
                if stars is not None and stars > 5:
                    raise Skip("more than five stars: how many there are is not known")
                opinions += [] if stars is None or stars == 3 else [(name, stars > 3)]
    return Labelled(*_asked_and_answered(row["data"]), agreed(by_people(opinions)), number)


LABEL_STUDIO = Format(
    "label-studio",
    "tasks of Label Studio (JSON): data with a prompt and a response (or a dialogue), annotations with choices or stars of five",
    ("data", "annotations"),
    lambda r: isinstance(r.get("data"), dict) and isinstance(r.get("annotations"), list),
    one(_label_studio),
)
