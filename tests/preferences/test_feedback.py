"""Exports of chat and evaluation tools, written from their documentation, with what trips readers up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefine.preferences.convert import canonical
from prefine.preferences.formats import FORMATS, detect
from prefine.preferences.formats.format import Skip
from prefine.preferences.formats.thumbs import DIFFER, UNCLEAR, UNRATED, rated, thumb
from prefine.preferences.labels import LabelledSource
from prefine.preferences.records import Dropped

LATER = {"id": "m5", "parentId": "m4", "childrenIds": [], "role": "assistant", "content": "later"}


def webui(rating: Any, message: str = "m4", **more: Any) -> dict[str, Any]:
    """Open WebUI's: a tree of messages of which the rated one is neither the last nor on the branch that is shown."""
    tree = {
        "m1": {"id": "m1", "parentId": None, "childrenIds": ["m2", "m4"], "role": "user", "content": "q", "models": ["x"]},
        "m2": {"id": "m2", "parentId": "m1", "childrenIds": ["m3"], "role": "assistant", "content": "shown", "model": "x"},
        "m3": {"id": "m3", "parentId": "m2", "childrenIds": [], "role": "user", "content": "thanks"},
        "m4": {"id": "m4", "parentId": "m1", "childrenIds": ["m5"], "role": "assistant", "content": "rated", "feedbackId": "f"},
    }
    tree["m5"] = LATER
    chat = {"history": {"currentId": "m3", "messages": tree | more.pop("messages", {})}, "title": "t", "messages": [], **more}
    return {
        **{"id": "f", "user_id": "u", "version": 0, "type": "rating", "created_at": 1, "updated_at": 2},
        "data": {"rating": rating, "model_id": "x", "sibling_model_ids": None, "reason": "helpful", "details": {"rating": 9}},
        "meta": {"model_id": "x", "message_id": message, "message_index": 2, "chat_id": "c", "base_models": {}},
        "snapshot": {"chat": {"id": "c", "user_id": "u", "title": "t", "chat": chat}},
    }


def u(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def a(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def row(prompt: list[Any], answer: Any, label: bool) -> dict[str, Any]:
    return {"prompt": prompt, "completion": [answer], "label": label}


THINKS = '<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds</summary>\n> so\n> be it\n</details>\nyes'
PROMPTFOO = {"prompt": {"raw": "q", "label": "p"}, "vars": {}, "response": {"output": "a"}, "success": True, "score": 1, "provider": {}}
CHAT = json.dumps([{"role": "system", "content": "s"}, u("q")])
EVALS = {
    **{"id": "o", "object": "eval.run.output_item", "created_at": 1, "run_id": "r", "eval_id": "e", "status": "pass"},
    **{"datasource_item_id": 0, "datasource_item": {"question": "other"}, "results": [{"name": "g", "passed": True, "score": 1.0}]},
    "sample": {"input": [u("q")], "output": [a("a")], "finish_reason": "stop", "error": None, "model": "x"},
}
TRACE = {"id": "t", "name": "chat", "input": {"messages": [u("q")]}, "output": a("a"), "metadata": {}, "tags": []}
RUN = {"id": "r", "run_type": "llm", "name": "ChatOpenAI", "error": None, "inputs": {}, "outputs": {}}
HUMAN = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"], "kwargs": {"content": "q"}}
GENERATED = {"generations": [[{"text": "a", "message": {"type": "ai", "data": {"content": "a"}}}]], "llm_output": {}}
RECORD = {"id": "1", "status": "completed", "fields": {"prompt": "q", "response": "a"}, "suggestions": {}, "metadata": {}}
TASK = {"id": 1, "data": {"prompt": "q", "response": "a"}, "predictions": [], "project": 3}


STORED: dict[str, Any] = {
    **{"object": "chat.completion", "id": "c", "model": "x", "created": 1, "usage": {}, "tools": None, "messages": [u("q")]},
    "choices": [{"index": 0, "message": a("a") | {"refusal": None, "tool_calls": None}, "finish_reason": "stop", "logprobs": None}],
}


def chat(**annotations: Any) -> dict[str, Any]:
    """A whole chat of Open WebUI's, with annotations of messages."""
    whole = webui(1)["snapshot"]["chat"]["chat"]
    nodes = whole["history"]["messages"]
    nodes |= {name: nodes[name] | {"annotation": annotation} for name, annotation in annotations.items()}
    return {"id": "c", "user_id": "u", "title": "t", "chat": whole, "updated_at": 1, "created_at": 1, "archived": False}


def annotated(*values: dict[str, Any], cancelled: bool = False) -> dict[str, Any]:
    return {"id": 9, "was_cancelled": cancelled, "result": [{"from_name": "x", "to_name": "y", "type": "z", "value": v} for v in values]}


GOLDEN: dict[str, tuple[list[Any], list[Any], dict[str, list[int]]]] = {
    "open-webui": (
        [
            webui(1),
            webui(-1, params={"system": "be kind"}),
            webui(1, "m6", messages={"m6": {"id": "m6", "parentId": "m3", "role": "assistant", "content": THINKS}}),
            webui(None),
            webui(1, "gone"),
            webui(1, "m3"),
            webui(1, messages={"m1": {"id": "m1", "parentId": "m4", "role": "user", "content": "q"}}),
            webui(1, messages={"m1": {"id": "m1", "parentId": None, "role": "user", "content": "q", "files": [{"type": "image"}]}}),
        ],
        [
            row([u("q")], a("rated"), True),
            row([{"role": "system", "content": "be kind"}, u("q")], a("rated"), False),
            row([u("q"), a("shown"), u("thanks")], a("yes") | {"reasoning_content": "so\nbe it"}, True),
        ],
        {
            "nobody rated it": [4],
            "the rated response is not in its snapshot": [5, 6, 7],
            "holds images or other parts that are not text; only text is trained on": [8],
        },
    ),
    "open-webui-chats": (
        [
            chat(m2={"rating": 1}, m4={"rating": -1}),
            chat(m4={"rating": None}),
            chat(m1={"files": "x"}, m4={"rating": 1}),
            chat(m5={"rating": 1}),
            chat(m4="good"),
            chat(m3={"rating": 1}),
        ],
        [
            row([u("q")], a("shown"), True), row([u("q")], a("rated"), False), row([u("q")], a("rated"), True),
            row([u("q"), a("rated")], a("later"), True),
        ],
        {"nobody rated it": [2, 5], "the rated response is not in its snapshot": [6]},
    ),
    "openai-stored": (
        [
            STORED | {"metadata": {"feedback": "thumbs_up", "user": "0"}},
            STORED | {"metadata": {"thumbs_down": 1}, "messages": {"object": "list", "data": [u("q") | {"content_parts": None}]}},
            STORED | {"metadata": {"rating": "1"}},
            STORED | {"metadata": {}},
            STORED | {"choices": STORED["choices"] * 2, "metadata": {"feedback": "good"}},
            {name: value for name, value in STORED.items() if name != "messages"} | {"metadata": {"feedback": "good"}},
        ],
        [row([u("q")], a("a"), True), row([u("q")], a("a"), False)],
        {
            "no rating that is yes or no": [3], "nobody rated it": [4], "several responses with one label": [5],
            "its prompt is not in it; add what chat/completions/ID/messages lists as 'messages'": [6],
        },
    ),
    "promptfoo": (
        [
            PROMPTFOO,
            PROMPTFOO | {"success": True, "gradingResult": {"pass": False, "score": 0}},
            PROMPTFOO | {"failureReason": 2, "response": {"error": "429"}, "success": False},
            PROMPTFOO | {"gradingResult": {"pass": True, "score": 1, "reason": "No assertions"}},
            PROMPTFOO | {"gradingResult": "x"},
            PROMPTFOO | {"prompt": {"raw": CHAT}, "response": {"output": {"answer": 4}}},
        ],
        [
            row([u("q")], a("a"), True), row([u("q")], a("a"), False), row([u("q")], a("a"), True),
            row([{"role": "system", "content": "s"}, u("q")], a('{"answer": 4}'), True),
        ],
        {"the model gave no response": [3], "nothing was checked": [4]},
    ),
    "openai-evals": (
        [
            EVALS,
            EVALS | {"results": [{"name": "g", "passed": True}, {"name": "h", "passed": False}], "status": "fail"},
            EVALS | {"sample": {"input": None, "output": [a("a")]}, "results": [], "status": "fail"},
            EVALS | {"sample": {"input": [u("q")], "output": [], "error": {"code": "x"}}},
        ],
        [row([u("q")], a("a"), True), row([u("q")], a("a"), False), row([u("other")], a("a"), False)],
        {"the model gave no response": [4]},
    ),
    "langfuse": (
        [
            TRACE | {"scores": [{"name": "user-feedback", "value": 1, "dataType": "BOOLEAN"}, {"name": "length", "value": 0.0}]},
            TRACE | {"scores": [{"name": "quality", "value": None, "stringValue": "thumbs down", "dataType": "CATEGORICAL"}]},
            TRACE | {"input": [u("q"), a("r"), u("s")], "output": "a", "scores": [{"name": "pass", "value": 1}]},
            TRACE | {"scores": [{"name": "relevance", "value": 0.92, "dataType": "NUMERIC"}]},
            TRACE | {"scores": [{"name": "user", "value": 1}, {"name": "user", "value": 0}]},
            TRACE | {"output": None, "scores": [{"name": "user", "value": 1}]},
        ],
        [row([u("q")], a("a"), True), row([u("q")], a("a"), False), row([u("q"), a("r"), u("s")], a("a"), True)],
        {"no rating that is yes or no": [4], "its ratings differ": [5], "the model gave no response": [6]},
    ),
    "langsmith": (
        [
            RUN | {"inputs": {"messages": [[HUMAN]]}, "outputs": GENERATED, "feedback_stats": {"user_score": {"n": 2, "avg": 1.0}}},
            RUN | {"inputs": {"question": "q"}, "outputs": {"output": "a"}, "feedback": [{"key": "thumbs", "score": 0, "value": None}]},
            RUN | {"inputs": {"messages": [u("q")]}, "outputs": {"choices": [{"message": a("a")}]},
                   "feedback_stats": {"correctness": {"n": 0, "avg": None}, "user": {"n": 1, "avg": None, "values": {"good": 1}}}},
            RUN | {"inputs": {"question": "q"}, "outputs": {"output": "a"}, "feedback_stats": {"user_score": {"n": 2, "avg": 0.5}}},
            RUN | {"inputs": {"question": "q"}, "outputs": None, "error": "boom", "feedback_stats": {"user_score": {"n": 1, "avg": 0.0}}},
            RUN | {"inputs": {"question": "q"}, "outputs": {"output": "a"}, "feedback_stats": {}},
        ],
        [row([u("q")], a("a"), True), row([u("q")], a("a"), False), row([u("q")], a("a"), True)],
        {"its ratings differ": [4], "the model gave no response": [5], "nobody rated it": [6]},
    ),
    "argilla-records": (
        [
            RECORD | {"responses": {"quality": [{"value": "good", "user_id": "x"}, {"value": "good", "user_id": "y"}]}},
            RECORD | {"responses": [{"status": "submitted", "values": {"ok": {"value": "no"}}}, {"status": "discarded", "values": {}}]},
            RECORD | {"fields": {"chat": [u("q"), a("a")]}, "responses": {"ok": [{"value": "yes"}], "why": [{"value": "it is short"}]}},
            RECORD | {"responses": {"quality": [{"value": "good"}, {"value": "bad"}]}},
            RECORD | {"responses": {"quality": [{"value": "good", "status": "draft"}]}},
            RECORD | {"fields": {"prompt": "q"}, "responses": {"quality": [{"value": "good"}]}},
        ],
        [row([u("q")], a("a"), True), row([u("q")], a("a"), False), row([u("q")], a("a"), True)],
        {"its ratings differ": [4], "nobody rated it": [5], "no response among its fields": [6]},
    ),
    "label-studio": (
        [
            TASK | {"annotations": [annotated({"choices": ["Good answer"]}, {"text": ["a comment"]})]},
            TASK | {"annotations": [annotated({"rating": 2}), annotated({"rating": 5}, cancelled=True)]},
            TASK | {"data": {"dialogue": [{"role": "human", "content": "q"}, {"role": "bot", "content": "a"}]},
                    "annotations": [annotated({"choices": ["thumbs_up"]})]},
            TASK | {"annotations": [annotated({"rating": 3})]},
            TASK | {"annotations": [annotated({"choices": ["Not good"]})]},
            TASK | {"annotations": []},
        ],
        [row([u("q")], a("a"), True), row([u("q")], a("a"), False), row([u("q")], a("a"), True)],
        {"no rating that is yes or no": [4, 5], "nobody rated it": [6]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_exports_are_read(name: str, kind: str, tmp_path: Path) -> None:
    rows, expected, dropped = GOLDEN[name]
    path = tmp_path / f"export.{kind}"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) if kind == "jsonl" else json.dumps(rows, indent=1))
    source = LabelledSource(str(path))
    assert [canonical(item) for item in source] == expected
    assert dict(source.dropped) == dropped
    assert source.format == name
    assert detect([json.loads(json.dumps(rows[0]))], "x") is FORMATS[name]


def test_files_that_hold_their_rows_inside(tmp_path: Path) -> None:
    """promptfoo's whole file, and a page of an API's answer."""
    path, rows = tmp_path / "results.json", GOLDEN["promptfoo"][0]
    path.write_text(json.dumps({"evalId": "e", "results": {"version": 3, "prompts": [], "results": rows, "stats": {}}, "config": {}}))
    source = LabelledSource(str(path))
    assert len(list(source)) == 4
    assert source.rows == len(rows)
    path.write_text(json.dumps({"object": "list", "data": [EVALS, EVALS], "has_more": False, "first_id": "o", "last_id": "o"}))
    assert len(list(LabelledSource(str(path)))) == 2


SIDES = {"prompt": "q", "response_1": "one", "response_2": "two"}


def rated_sides(**stars: tuple[int, int]) -> dict[str, Any]:
    """Stars for two responses by what was asked of each."""
    result = [
        {"from_name": f"{name}_{place}", "to_name": f"response_{place}", "type": "rating", "value": {"rating": rating}}
        for name, both in stars.items()
        for place, rating in enumerate(both, 1)
    ]
    return {"id": 1, "was_cancelled": False, "result": result}


def pair_of(chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": [u("q")], "chosen": [a(chosen)], "rejected": [a(rejected)]}


CALLED = {"id": "m4", "parentId": "m1", "role": "assistant", "content": '<details type="tool_calls">x</details>done'}
OTHERS: dict[str, list[tuple[dict[str, Any], Any]]] = {
    # a row, and its label, or its whole record, or None where it says nothing that is sure
    "langfuse": [
        (TRACE | {"scores": [{"name": "user-rating", "value": 1, "dataType": "NUMERIC"}]}, None),  # one star
        (TRACE | {"scores": [{"name": "hallucination", "value": 1.0}]}, None),
        (TRACE | {"scores": [{"name": "relevance", "value": 1.0}]}, None),
        (TRACE | {"scores": [{"name": "relevance", "value": 1, "dataType": "BOOLEAN"}]}, True),
        (TRACE | {"output": json.dumps(a("a")), "scores": [{"name": "thumbs", "value": 0}]}, row([u("q")], a("a"), False)),
        (TRACE | {"scores": [{"name": "quality", "stringValue": "bad", "source": "ANNOTATION"},
                             {"name": "user_satisfaction", "stringValue": "good", "source": "EVAL"}]}, False),
        (TRACE | {"scores": [{"name": "output", "stringValue": "Yes.", "dataType": "CORRECTION"}]}, None),
        (TRACE | {"output": json.dumps({"question": "2+2?", "choices": ["3", "4"]}), "scores": [{"name": "thumbs", "value": 1}]},
         row([u("q")], a('{"question": "2+2?", "choices": ["3", "4"]}'), True)),
        (TRACE | {"output": [{"type": "text", "text": "one, "}, {"type": "text", "text": "two"}],
                  "scores": [{"name": "thumbs", "value": 1}]}, row([u("q")], a("one, two"), True)),
    ],
    "label-studio": [
        (TASK | {"data": SIDES, "annotations": [annotated({"choices": ["response_2"]})]}, pair_of("two", "one")),
        (TASK | {"data": SIDES, "annotations": [annotated({"choices": ["B is better"]})]}, None),
        (TASK | {"data": SIDES, "annotations": [rated_sides(helpful=(5, 1), verbosity=(1, 4))]}, None),
        (TASK | {"data": SIDES, "annotations": [rated_sides(helpful=(5, 1), verbosity=(3, 3))]}, pair_of("one", "two")),
    ],
    "argilla-records": [
        (RECORD | {"fields": SIDES | {"response_3": "three"},
                   "responses": {"acceptable": [{"value": ["response_1", "response_2"]}]}}, None),
        (RECORD | {"fields": SIDES, "responses": {"acceptable": [{"value": ["response_1", "response_2"]}]}}, None),
        (RECORD | {"fields": SIDES, "responses": {"ranking": [{"value": ["response_2", "response_1"]}]}}, pair_of("two", "one")),
        (RECORD | {"fields": SIDES, "responses": {"preference": [{"value": "A"}]}}, None),
        (RECORD | {"fields": {"instruction": "q", "context": "c", "response": "a"}, "responses": {"ok": [{"value": "yes"}]}},
         row([u("q\nc")], a("a"), True)),
    ],
    "langsmith": [
        (RUN | {"inputs": {"question": "q"}, "outputs": {"output": "a"},
                "feedback_stats": {"user_score": {"n": 2, "avg": 0.0, "stdev": 1.0}}}, None),
        (RUN | {"inputs": {"instruction": "q", "input": "i"}, "outputs": {"output": "a"},
                "feedback_stats": {"user_score": {"n": 1, "avg": 1}}}, row([u("q\ni")], a("a"), True)),
        (RUN | {"inputs": {"input": "q", "chat_history": [HUMAN, {"type": "ai", "content": "r"}]}, "outputs": {"output": "a"},
                "feedback_stats": {"user_score": {"n": 1, "avg": 0.0}}}, row([u("q"), a("r"), u("q")], a("a"), False)),
        (RUN | {"inputs": json.dumps({"question": "q", "context": "c"}), "outputs": json.dumps({"output": "a"}),
                "feedback_stats": json.dumps({"user_score": {"n": 1, "avg": 1.0}})}, row([u("q\nc")], a("a"), True)),
        (RUN | {"inputs": {"question": "q"}, "outputs": {"output": "a"}, "feedback": [{"key": "star_rating", "score": 1}]}, None),
    ],
    "argilla-records ": [
        (RECORD | {"responses": {"quality": [{"value": 1}]}}, None),
        (RECORD | {"responses": {"toxic": [{"value": "no"}], "helpful": [{"value": "yes"}]}}, True),
        ({"id": "1", "prompt": "q", "response": "a", "ok.responses": ["yes", "no"], "ok.responses.status": ["submitted", "draft"]}, True),
    ],
    "label-studio ": [
        (TASK | {"annotations": [annotated({"rating": 8})]}, None),
        (TASK | {"data": {"dialogue": [{"author": "user", "text": "q"}, {"author": "assistant", "text": "a"}]},
                 "annotations": [annotated({"choices": ["Bad"]})]}, row([u("q")], a("a"), False)),
    ],
    "openai-evals": [(EVALS | {"results": [{"name": "g"}]}, True)],
    "open-webui": [(webui(1, messages={"m4": CALLED}), None)],
}  # fmt: skip


@pytest.mark.parametrize(("name", "given_row", "expected"), [(name, r, e) for name, rows in OTHERS.items() for r, e in rows])
def test_what_is_not_sure_is_no_label(name: str, given_row: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    from prefine.preferences.convert import Converter
    from prefine.preferences.records import Labelled

    name = name.strip()
    assert FORMATS[name].sniff(given_row)
    [item] = Converter(FORMATS[name], "x").convert([(1, given_row)])
    if isinstance(expected, dict):
        assert canonical(item) == expected  # type: ignore[arg-type]
    else:
        assert (item.label if isinstance(item, Labelled) else None) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((v, True) for v in (True, 1, 1.0, "1", "thumbs_up", "Thumbs up", "👍", "GOOD", "yes", "Good answer!", "passed", "like")),
        *((v, False) for v in (False, 0, -1, "-1", "thumbs-down", "👎", "bad", "No", "incorrect", "This is wrong.", "dislike")),
        *((v, None) for v in (None, 2, 0.5, "", "maybe", "not good", "good and bad", "neutral", "good question to ask", [], {}, "5")),
    ],
)
def test_thumbs(value: Any, expected: bool | None) -> None:
    assert thumb(value) is expected


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([("user_turns", 1), ("pass", 0)], False),  # a counter is no thumb
        ([("likelihood", 1.0)], UNCLEAR),
        ([("userFeedback", 1)], True),
        ([("thumbs_down", 1)], False),
        ([("thumbs_down", 0)], UNCLEAR),
        ([("thumbs-up/down", -1)], False),
        ([("thumbs_down", "1")], False),
        ([("thumbs_down", "1.0")], False),
        ([("disliked", "yes")], False),
        ([("dislike", "bad")], UNCLEAR),
        ([("user_score", 1)], True),
        ([("needs_rewrite", "yes")], UNCLEAR),
        ([("off_topic", True)], UNCLEAR),
        ([("is_repetitive", 1)], UNCLEAR),
        ([("tone", "thumbs down")], False),  # says it by itself
        ([("user_comment", "please shorter"), ("pass", True)], True),  # a remark hides no grade
        ([("user_comment", "no"), ("pass", True)], True),
        ([("user_intent", "question"), ("quality", "Good")], True),
        ([("user-feedback", 0.5), ("correctness", 1.0)], DIFFER),  # a mean of yes and no, not to be decided by a grader
        ([("user-feedback", 0), ("correctness", 1.0)], False),
        ([("contains_pii", "yes")], UNCLEAR),
        ([("rating", 1)], UNCLEAR),
        ([("rating", "1"), ("label", "good")], True),
        ([("score", 0)], UNCLEAR),
        ([("feedback", None), ("x", "")], UNRATED),
        ([], UNRATED),
        ([("a", "yes"), ("b", "no")], UNCLEAR),
        ([("ok", "yes"), ("helpful", "no")], DIFFER),
    ],
)
def test_scores_by_their_names(scores: list[tuple[str, Any]], expected: bool | str) -> None:
    if isinstance(expected, bool):
        assert rated(scores) is expected
        return
    with pytest.raises(Skip, match=f"^{expected}$"):
        rated(scores)


NAMES = ["messages", "content", "role", "id", "type", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(GOLDEN)), st.integers(0, 5), st.data())
def test_damaged_exports_are_dropped_with_a_reason(name: str, place: int, data: st.DataObject) -> None:
    """A part of a row is replaced by something else: it is read or dropped, and nothing else is raised."""
    from prefine.preferences.convert import Converter

    rows = GOLDEN[name][0]
    broken = json.loads(json.dumps(rows[place % len(rows)]))
    node, depth = broken, 0
    while isinstance(node, dict | list) and node and depth < 6:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        depth += 1
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            node[key] = data.draw(JSON)
            break
        node = node[key]
    if FORMATS[name].sniff(broken):
        for item in Converter(FORMATS[name], "x").convert([(1, broken)]):
            assert item is not None


def test_promptfoos_thumbs_of_version_2_stand_in_its_table(tmp_path: Path) -> None:
    """There a failed response's text begins with why it failed; an API's error is none; what nobody touched stays as it was graded."""
    graded = {"pass": False, "score": 0, "reason": "Expected output to contain blue"}
    rows = [PROMPTFOO | {"response": {"output": text}, "success": False, "gradingResult": graded} for text in ("grey", "green")]
    rows.append(PROMPTFOO | {"response": {"error": "429"}, "success": False, "gradingResult": None})
    by_hand = {"pass": True, "score": 1, "reason": "Manual result (overrides all other grading results)"}
    cells = [
        {"prompt": "q", "pass": True, "text": "Expected output to contain blue\n---\ngrey", "gradingResult": by_hand},
        {"prompt": "q", "pass": False, "text": "Expected output to contain blue\n---\ngreen", "gradingResult": graded},
        {"prompt": "q", "pass": False, "text": "429", "gradingResult": None},
    ]
    table = {"head": {"prompts": [], "vars": []}, "body": [{"vars": [], "outputs": cells}]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": {"version": 2, "results": rows, "table": table, "stats": {}}, "config": {}}))
    source = LabelledSource(str(path))
    assert [canonical(item) for item in source] == [row([u("q")], a("grey"), True), row([u("q")], a("green"), False)]
    assert dict(source.dropped) == {"the model gave no response": [3]}
    path.write_text(json.dumps({"results": {"version": 2, "results": rows, "table": {"head": {}, "body": []}}}))
    assert [item.label for item in LabelledSource(str(path))] == [False, False]


def test_tasks_of_two_files_are_two(tmp_path: Path) -> None:
    """Flat exports have a row for each annotation; the same id in another project is another task."""
    beside = {"annotator": 1, "created_at": "", "updated_at": "", "lead_time": 1.0}
    for place, (name, word) in enumerate((("a", "Good"), ("b", "Bad"))):
        task = {"id": 7, "annotation_id": place, "prompt": f"q{name}", "response": name, "verdict": word, "correct_answer": "No", **beside}
        (tmp_path / f"{name}.json").write_text(json.dumps([task, task | {"annotation_id": 10 + place}]))
    found = [canonical(item) for item in LabelledSource(str(tmp_path))]
    assert found == [row([u("qa")], a("a"), True), row([u("qb")], a("b"), False)]


def test_a_disputed_bucket_leaves_the_others() -> None:
    from prefine.preferences.convert import Converter

    items = [{"id": name, "body": f"text {name}"} for name in "abcd"]
    orders = [{"good": ["a", "b"], "bad": ["c", "d"]}, {"good": ["a", "b"], "bad": ["d", "c"]}]
    task = {"id": 1, "data": {"prompt": "q", "items": items}, "annotations": [annotated({"ranker": order}) for order in orders]}
    found = list(Converter(FORMATS["label-studio"], "x").convert([(1, task)]))
    assert [canonical(item) for item in found if not isinstance(item, Dropped)] == [pair_of("text a", "text b")]
    assert [item.reason for item in found if isinstance(item, Dropped)] == ["its ratings differ"]
