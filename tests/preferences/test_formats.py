"""Each form of preference data, from rows written by hand after its public description, traps included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preferences.test_feedback import GOLDEN as FEEDBACK
from prefine.audit.audit import audit
from prefine.errors import ColumnError, ConfigError, DataError
from prefine.preferences.convert import PairSource, Reading, canonical, labelled_of, pairs_of
from prefine.preferences.formats import FORMATS
from prefine.preferences.ranking import POLICIES, to_pairs
from prefine.preferences.records import Dropped, Labelled, Ranked


def u(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def a(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def s(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def pair(prompt: Any, chosen: Any, rejected: Any, scores: tuple[float, float] | None = None, **extra: Any) -> dict[str, Any]:
    both = {} if scores is None else {"score_chosen": scores[0], "score_rejected": scores[1]}
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | both | extra


def ranked(prompt: Any, answers: list[str], scores: list[float]) -> dict[str, Any]:
    return {"prompt": prompt, "answers": answers, "scores": scores}


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}

# name -> (rows, canonical records, reason -> numbers)
GOLDEN: dict[str, tuple[list[Any], list[Any], dict[str, list[int]]]] = {
    "pairs": (
        [
            {"prompt": "q", "chosen": "good", "rejected": "bad", "id": 7},
            {"prompt": "q", "chosen": "same", "rejected": "same"},
            {"prompt": "q", "chosen": None, "rejected": "bad"},
            {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": 4, "score_rejected": 1.5},
            {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": None, "score_rejected": 1.5},
            {"prompt": "q", "chosen": "good", "rejected": "bad", "system": "be kind"},
            {"prompt": "q", "chosen": "good", "rejected": "bad", "images": ["a.png"]},
            {"prompt": "q", "chosen": "half \ud800", "rejected": "bad"},
        ],
        [
            pair("q", "good", "bad"),
            pair("q", "good", "bad", (4.0, 1.5)),
            pair("q", "good", "bad"),
            pair([s("be kind"), u("q")], [a("good")], [a("bad")]),
        ],
        {
            "chosen equals rejected": [2],
            "response is not text": [3],
            "holds images or other parts that are not text; only text is trained on": [7],
            "holds broken unicode (half of a surrogate pair)": [8],
        },
    ),
    "pairs of messages": (
        [
            {"prompt": [u("q")], "chosen": [a("good")], "rejected": [a("bad")]},
            {"prompt": [s("x"), u("q")], "chosen": "good", "rejected": "bad"},
            {"prompt": [u("q")], "chosen": [u("q"), a("good")], "rejected": [u("q"), a("bad")]},  # the prompt repeated in both
            {"prompt": [u("q")], "chosen": [a("") | {"tool_calls": [CALL]}], "rejected": [a("no")], "tools": json.dumps([ADD])},
            {"prompt": [{"role": "user", "content": [{"type": "text", "text": "q"}]}], "chosen": [a("good")], "rejected": [a("bad")]},
            {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": [a("good")], "rejected": [a("bad")]},
        ],
        [
            pair([u("q")], [a("good")], [a("bad")]),
            pair([s("x"), u("q")], [a("good")], [a("bad")]),
            pair([u("q")], [a("good")], [a("bad")]),
            pair([u("q")], [a("") | {"tool_calls": [CALL]}], [a("no")], tools=[ADD]),
            pair([u("q")], [a("good")], [a("bad")]),
        ],
        {"holds images or other parts that are not text; only text is trained on": [6]},
    ),
    "implicit-text": (  # TRL's standard preference without a prompt; cut where a word begins
        [
            {"chosen": "The sky is blue.", "rejected": "The sky is blond.", "margin": 2},
            {"chosen": "a b", "rejected": "a"},
            {"chosen": "yes", "rejected": "no"},
            {"chosen": "The sky  is", "rejected": "The sky  was", "margin": None},
        ],
        [
            {"prompt": "The sky is", "chosen": " blue.", "rejected": " blond.", "margin": 2.0},
            {"prompt": "The sky", "chosen": "  is", "rejected": "  was"},
        ],
        {
            "response is empty": [2],
            "the two texts share no beginning, so there is no prompt; name the column that holds it (--map prompt=COLUMN)": [3],
        },
    ),
    "implicit-prompt": (  # HuggingFaceH4/ultrafeedback_binarized, trl-lib's, Tulu's mixture, argilla's cleaned set
        [
            {"prompt": "q", "prompt_id": "x", "chosen": [u("q"), a("good")], "rejected": [u("q"), a("bad")],
             "messages": [u("q"), a("good")], "score_chosen": 8.0, "score_rejected": 3.0},
            {"chosen": [u("q"), a("good")], "rejected": [u("q"), a("bad")], "chosen-rating": 5.0, "rejected-rating": 4.0},
            {"chosen": [u("q"), a("one"), u("r"), a("good")], "rejected": [u("q"), a("two"), u("r"), a("bad")]},
            {"chosen": [a("good")], "rejected": [a("bad")]},
        ],
        [
            pair([u("q")], [a("good")], [a("bad")], (8.0, 3.0)),
            pair([u("q")], [a("good")], [a("bad")], (5.0, 4.0)),
            pair([u("q")], [a("one"), u("r"), a("good")], [a("two"), u("r"), a("bad")]),
        ],
        {"the two sides share no prompt": [4]},
    ),
    "hh-rlhf": (
        [
            {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
            {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: good",
             "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: bad"},
            {"chosen": "\n\nHuman: q\n\nAssistant: one\n\nHuman: r\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: two"},
            {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b\n\nHuman: r\n\nAssistant: c"},
            {"chosen": "\n\nHuman: q\n\nAssistant:", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        ],
        [
            pair([u("q")], [a("good")], [a("bad")]),
            pair([u("q"), a("a"), u("r")], [a("good")], [a("bad")]),
            pair([u("q")], [a("one"), u("r"), a("good")], [a("two")]),
            pair([u("q")], [a("a")], [a("b"), u("r"), a("c")]),
        ],
        {"response is empty": [5]},
    ),
    "sharegpt": (
        [
            {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
             "rejected": {"from": "gpt", "value": "bad"}},
            {"conversations": [{"from": "system", "value": "x"}, {"from": "human", "value": "q"}, {"from": "function_call",
             "value": '{"name": "add", "arguments": {"a": 1}}'}, {"from": "observation", "value": "2"}], "tools": json.dumps([ADD]),
             "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}},
            {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
             "rejected": {"from": "human", "value": "bad"}},
            {"conversations": [{"from": "gpt", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
             "rejected": {"from": "gpt", "value": "bad"}},
        ],
        [
            pair([u("q")], [a("good")], [a("bad")]),
            pair([s("x"), u("q"), a("") | {"tool_calls": [CALL]}, {"role": "tool", "content": "2"}], [a("good")], [a("bad")], tools=[ADD]),
        ],
        {"the response is of the role 'user', not the assistant's": [3], "the conversation does not end with the user's turn": [4]},
    ),
    "messages": (  # Axolotl
        [
            {"messages": [u("q"), a(None) | {"tool_calls": [CALL]}, {"role": "tool", "content": "2"}],
             "chosen": a("good"), "rejected": a("bad")},
            {"messages": [u("q")], "chosen": [a("good")], "rejected": "bad"},
            {"messages": [u("q"), a("x")], "chosen": a("good"), "rejected": a("bad")},
        ],
        [
            pair([u("q"), a("") | {"tool_calls": [CALL]}, {"role": "tool", "content": "2"}], [a("good")], [a("bad")]),
            pair([u("q")], [a("good")], [a("bad")]),
        ],
        {"the conversation does not end with the user's turn": [3]},
    ),
    "swift": (
        [
            {"messages": [s("x"), u("q"), a("good")], "rejected_response": "bad"},
            {"messages": [u("q"), a("good")], "rejected_messages": [u("q"), a("bad")]},
            {"messages": [u("q"), a("") | {"tool_calls": [CALL]}, {"role": "tool", "content": "2"}, a("good")],
             "rejected_messages": [u("q"), a("bad")]},
            {"messages": [u("q")], "rejected_response": "bad"},
        ],
        [
            pair([s("x"), u("q")], [a("good")], [a("bad")]),
            pair([u("q")], [a("good")], [a("bad")]),
            pair([u("q")], [a("") | {"tool_calls": [CALL]}, {"role": "tool", "content": "2"}, a("good")], [a("bad")]),
        ],
        {"the last turn is not the assistant's": [4]},
    ),
    "openai": (
        [
            {"input": {"messages": [u("q")], "tools": [ADD], "parallel_tool_calls": True}, "preferred_output": [a("good")],
             "non_preferred_output": [a("bad")]},
            {"input": {"messages": []}, "preferred_output": [a("good")], "non_preferred_output": [a("bad")]},
        ],
        [pair([u("q")], [a("good")], [a("bad")], tools=[ADD])],
        {"prompt is not text": [2]},
    ),
    "alpaca": (
        [
            {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
            {"instruction": "q", "input": "z", "chosen": "good", "rejected": "bad", "system": "x"},
        ],
        [pair([u("q")], [a("good")], [a("bad")]), pair([s("x"), u("q\nz")], [a("good")], [a("bad")])],
        {},
    ),
    "argilla": (  # argilla/ultrafeedback-binarized-preferences
        [{"source": "x", "instruction": "q", "chosen_response": "good", "rejected_response": "bad", "chosen_avg_rating": 4.5,
          "rejected_avg_rating": 2.0, "chosen_model": "m"}],
        [pair([u("q")], [a("good")], [a("bad")], (4.5, 2.0))],
        {},
    ),
    "orca": (  # Intel/orca_dpo_pairs; distilabel's has input for question
        [
            {"system": "x", "question": "q", "chosen": "good", "rejected": "bad"},
            {"system": "", "question": "q", "chosen": "good", "rejected": "bad"},
            {"system": "x", "input": "q", "chosen": "good", "rejected": "bad", "rating": [5, 3]},
        ],
        [
            pair([s("x"), u("q")], [a("good")], [a("bad")]),
            pair([u("q")], [a("good")], [a("bad")]),
            pair([s("x"), u("q")], [a("good")], [a("bad")]),
        ],
        {},
    ),
    "rated: UltraFeedback": (
        [
            {"source": "x", "instruction": "q", "models": ["m", "n"], "completions": [
                {"model": "m", "response": "good", "overall_score": 1.0, "fine-grained_score": 4.5},
                {"model": "n", "response": "bad", "overall_score": 9.0, "fine-grained_score": 2.0},
                {"model": "o", "response": "unrated", "overall_score": None, "fine-grained_score": None}]},
            {"instruction": "q", "completions": [{"response": "alone", "fine-grained_score": 4.0}]},
        ],
        [ranked([u("q")], ["good", "bad"], [4.5, 2.0])],
        {"an answer of several has no text or no score": [1], "fewer than two answers with a score": [2]},
    ),
    "rated: Nectar": (
        [{"prompt": "\n\nHuman: q\n\nAssistant: ", "turns": 1, "answers": [{"answer": "bad", "model": "m", "rank": 7.0},
          {"answer": "good", "model": "n", "rank": 1.0}]}],
        [ranked([u("q")], ["bad", "good"], [-7.0, -1.0])],
        {},
    ),
    "rated: scores beside": (
        [{"prompt": "q", "responses": ["x", "y"], "scores": [0.1, 0.9]}, {"prompt": "q", "responses": ["x", "y"], "scores": [0.1]}],
        [ranked([u("q")], ["x", "y"], [0.1, 0.9])],
        {"answers and scores differ in number": [2]},
    ),
    "stack-exchange": (
        [{"qid": 1, "question": "q", "answers": [{"answer_id": 1, "text": "good", "pm_score": 5, "selected": True},
          {"answer_id": 2, "text": "bad", "pm_score": 0, "selected": False}], "date": "d"},
         {"qid": 2, "question": "q", "answers": [{"answer_id": 1, "text": "one", "pm_score": 5}]}],
        [ranked([u("q")], ["good", "bad"], [5.0, 0.0])],
        {"fewer than two answers with a score": [2]},
    ),
    "oasst-trees": (
        [
            {"message_tree_id": "t", "tree_state": "ready", "prompt": {"message_id": "t", "text": "q", "role": "prompter", "replies": [
                {"message_id": "b", "text": "bad", "role": "assistant", "rank": 1, "replies": []},
                {"message_id": "g", "text": "good", "role": "assistant", "rank": 0, "replies": [
                    {"message_id": "r", "text": "r", "role": "prompter", "replies": [
                        {"message_id": "x", "text": "x", "role": "assistant", "rank": 0},
                        {"message_id": "y", "text": "y", "role": "assistant", "rank": None},
                        {"message_id": "z", "text": "z", "role": "assistant", "rank": 1, "deleted": True}]}]},
                {"message_id": "m", "text": "middling", "role": "assistant", "rank": 2, "replies": []}]}},
            {"message_tree_id": "v", "prompt": {"message_id": "v", "text": "q", "role": "prompter", "replies": []}},
            {"message_tree_id": "w", "prompt": {"message_id": "w", "text": "q", "role": "prompter", "deleted": True, "replies": []}},
        ],
        [ranked([u("q")], ["bad", "good", "middling"], [-1.0, 0.0, -2.0])],
        {"no message has two ranked replies": [2], "the first message is deleted": [3]},
    ),
    "oasst-messages": (  # OpenAssistant/oasst1 and oasst2: the same trees, row by row
        [
            {"message_id": "t", "parent_id": None, "message_tree_id": "t", "text": "q", "role": "prompter", "rank": None, "deleted": False},
            {"message_id": "g", "parent_id": "t", "message_tree_id": "t", "text": "good", "role": "assistant", "rank": 0, "deleted": False},
            {"message_id": "b", "parent_id": "t", "message_tree_id": "t", "text": "bad", "role": "assistant", "rank": 1, "deleted": False},
            {"message_id": "v", "parent_id": None, "message_tree_id": "v", "text": "q", "role": "prompter", "rank": None, "deleted": False},
            {"message_id": "o", "parent_id": "lost", "message_tree_id": "w", "text": "x", "role": "assistant", "rank": 1, "deleted": False},
        ],
        [ranked([u("q")], ["good", "bad"], [0.0, -1.0])],
        {"no message has two ranked replies": [4], "a message's parent is not among the rows before and after it": [5]},
    ),
    "arena": (  # lmsys/chatbot_arena_conversations
        [
            {"question_id": "1", "model_a": "m", "model_b": "n", "winner": "model_b", "conversation_a": [u("q"), a("bad")],
             "conversation_b": [u("q"), a("good")], "turn": 1, "language": "English"},
            {"winner": "tie (bothbad)", "conversation_a": [u("q"), a("x")], "conversation_b": [u("q"), a("y")]},
            {"winner": "model_a", "conversation_a": [u("q"), a("x"), u("r"), a("z")], "conversation_b": [u("q"), a("y"), u("r"), a("w")]},
        ],
        [pair([u("q")], [a("good")], [a("bad")]), pair([u("q")], [a("x"), u("r"), a("z")], [a("y"), u("r"), a("w")])],
        {"a tie": [2]},
    ),
    "shp": (
        [
            {"post_id": "p", "domain": "d", "history": "q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0, "score_A": 3,
             "score_B": 9, "score_ratio": 3.0},
            {"history": "q", "human_ref_A": "x", "human_ref_B": "y", "labels": 2},
        ],
        [pair([u("q")], [a("good")], [a("bad")], (9.0, 3.0))],
        {"label is neither 1 (A is preferred) nor 0": [2]},
    ),
    "helpsteer": (  # nvidia/HelpSteer2: a prompt's answers stand in rows one after another
        [
            {"prompt": "q", "response": "bad", "helpfulness": 1, "correctness": 2, "coherence": 4, "complexity": 1, "verbosity": 1},
            {"prompt": "q", "response": "good", "helpfulness": 4, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 2},
            {"prompt": "q", "response": "unrated", "helpfulness": None},
            {"prompt": "q", "response": " ", "helpfulness": 2},
            {"prompt": "alone", "response": "x", "helpfulness": 4},
        ],
        [ranked([u("q")], ["bad", "good"], [1.0, 4.0])],
        {"an answer of several has no text or no score": [3, 4], "fewer than two answers with a score": [5]},
    ),
    "helpsteer-preference": (
        [
            {"prompt": "q", "response_1": "bad", "response_2": "good", "preference_strength": 2},
            {"prompt": "q", "response_1": "x", "response_2": "y", "preference_strength": 0},
        ],
        [pair([u("q")], [a("good")], [a("bad")], (2.0, 0.0))],
        {"a tie": [2]},
    ),
    "summaries": (  # openai/summarize_from_feedback, comparisons
        [{"info": {"id": "t3", "post": "long", "title": "T", "subreddit": "advice", "site": None, "article": None},
          "summaries": [{"text": "bad", "policy": "p", "note": None}, {"text": "good", "policy": "q", "note": None}], "choice": 1,
          "worker": "w", "batch": "b", "split": "train", "extra": {"confidence": 8}},
         {"info": {"id": "c", "article": "news", "post": None, "title": None, "subreddit": None}, "choice": 0,
          "summaries": [{"text": "good"}, {"text": "bad"}]}],
        [pair([u("SUBREDDIT: r/advice\nTITLE: T\nPOST: long\nTL;DR:")], [a("good")], [a("bad")]),
         pair([u("news\nTL;DR:")], [a("good")], [a("bad")])],
        {},
    ),
    "labelled": (
        [
            {"prompt": "q", "completion": "x", "label": True},
            {"messages": [u("q"), a("y")], "label": False},
            {"prompt": "q", "completion": "x", "label": "maybe"},
            {"messages": [a("y"), u("q")], "label": False},
        ],
        [{"prompt": "q", "completion": "x", "label": True}, {"prompt": [u("q")], "completion": [a("y")], "label": False}],
        {"label is neither true nor false": [3], "the last turn is not the assistant's": [4]},
    ),
}  # fmt: skip


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden(name: str, tmp_path: Path) -> None:
    rows, records, dropped = GOLDEN[name]
    source = PairSource(write(tmp_path / "x.jsonl", rows))
    items = list(source.items(source.sources[0]))
    assert source.format == name.split(":")[0].replace("pairs of messages", "pairs")
    assert [canonical(x) for x in items if not isinstance(x, Dropped)] == records
    found: dict[str, list[int]] = {}
    for item in items:
        if isinstance(item, Dropped):
            found.setdefault(item.reason, []).append(item.number)
    assert found == dropped
    # What is written in the canonical form is read back as it was.
    if records:
        again = PairSource(write(tmp_path / "y.jsonl", records))
        assert [canonical(x) for x in again.items(again.sources[0]) if not isinstance(x, Dropped)] == records


def test_every_form_has_a_golden_file() -> None:
    assert {name.split(":")[0] for name in GOLDEN} | set(FEEDBACK) >= set(FORMATS)


def test_policies_by_hand() -> None:
    record = Ranked("q", ("c", "a", "d", "b", "b2"), (1.0, 4.0, 0.0, 2.0, 2.0), 3)  # a 4, b 2, b2 2, c 1, d 0

    def made(policy: str, gap: float = 0.0) -> list[str]:
        return [f"{p.chosen}>{p.rejected}" for p in to_pairs(record, policy, gap)]

    assert made("best-vs-worst") == ["a>d"]
    assert made("adjacent") == ["a>b", "b2>c", "c>d"]  # b and b2 tie
    assert made("all") == ["a>b", "a>b2", "a>c", "a>d", "b>c", "b>d", "b2>c", "b2>d", "c>d"]
    assert made("all", 2.0) == ["a>b", "a>b2", "a>c", "a>d", "b>d", "b2>d"]
    assert made("best-vs-random") == made("best-vs-random")
    assert made("best-vs-random")[0].startswith("a>")
    assert to_pairs(record, "all")[0].scores == (4.0, 2.0)
    for policy in POLICIES:
        assert to_pairs(Ranked("q", ("x", "y"), (1.0, 1.0)), policy) == []  # a tie is no pair


def test_labelled_answers_and_pairs_of_them() -> None:
    answers = [Labelled("q", "x", False, 1), Labelled("q", "y", True, 2), Labelled("r", "z", True, 3), Labelled("q", "w", False, 4)]
    items = list(pairs_of(answers))
    assert [(p.prompt, p.chosen, p.rejected) for p in items if not isinstance(p, Dropped)] == [("q", "y", "x")]
    assert sorted(d.number for d in items if isinstance(d, Dropped)) == [3, 4]
    (made,) = [p for p in items if not isinstance(p, Dropped)]
    assert [(x.answer, x.label) for x in labelled_of(made)] == [("y", True), ("x", False)]


def test_labelled_data_is_not_taken_for_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", GOLDEN["labelled"][0])
    with pytest.raises(DataError, match=r"prefine data convert .* --to pairs"):
        list(PairSource(path))


def test_two_forms_at_once_are_asked_about(tmp_path: Path) -> None:
    row = {"messages": [u("q"), a("y")], "label": True, "prompt": "q", "chosen": "x", "rejected": "y"}
    path = write(tmp_path / "x.jsonl", [row])
    with pytest.raises(DataError, match=r"in 2 ways; give --format pairs .* or --format labelled .*A row: \{\"messages\""):
        list(PairSource(path))
    assert len(list(PairSource(path, Reading(format="pairs")))) == 1
    with pytest.raises(ConfigError, match="did you mean 'sharegpt'"):
        Reading(format="sharegtp")
    with pytest.raises(ColumnError, match=r"--format openai expects input\.messages"):
        list(PairSource(path, Reading(format="openai")))


@pytest.mark.parametrize(
    ("row", "flag"),
    [
        ({"question": "q", "chosen": "a", "rejected": "b"}, "--map prompt=question"),
        ({"prompt": "q", "chosen": "a", "reject": "b"}, "--map rejected=reject"),
        ({"prompt": "q", "preferred": "a", "dispreferred": "b"}, "--map chosen=preferred rejected=dispreferred"),
        ({"Prompt": "q", "Chosen": "a", "Rejected": "b"}, "--map prompt=Prompt chosen=Chosen rejected=Rejected"),
        ({"query": "q", "good_answer": "a", "bad_answer": "b"}, "--map prompt=query chosen=good_answer rejected=bad_answer"),
        ({"prompt": "q", "chosn": "a", "rejected": "b"}, "--map chosen=chosn"),
        ({"history": "q", "human_ref_A": "a", "human_ref_B": "b", "label": 1}, "--map labels=label"),
    ],
)
def test_a_wrong_column_gives_the_flag_to_copy(row: dict[str, Any], flag: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [row])
    with pytest.raises(ColumnError) as caught:
        list(PairSource(path))
    assert flag in str(caught.value)
    assert all(column in str(caught.value) for column in row)
    columns = dict(word.split("=") for word in flag.removeprefix("--map ").split())
    assert len(list(PairSource(path, Reading(columns)))) == 1  # and the flag works


def test_real_files(shared_data: Path) -> None:
    def nodes(node: dict[str, Any]) -> int:
        replies = node.get("replies", [])
        return (sum(r.get("rank") is not None for r in replies) >= 2) + sum(map(nodes, replies))

    import gzip

    trees = str(shared_data / "oasst_en_100_trees.jsonl.gz")
    with gzip.open(trees) as stream:
        expected = sum(nodes(json.loads(line)["prompt"]) for line in stream)
    assert expected == 212
    for policy, count in (("best-vs-worst", 212), ("adjacent", 429), ("all", 754)):
        source = PairSource(trees, Reading(pairing=policy))
        assert len(list(source)) == count
        assert source.format == "oasst-trees"
    sharegpt = PairSource(str(shared_data / "sharegpt_dpo_en_300.json.gz"))
    assert len(list(sharegpt)) == 300
    assert sharegpt.format == "sharegpt"
    kto = PairSource(str(shared_data / "kto_en_300.json.gz"))
    found = list(kto.items(kto.sources[0]))
    assert kto.format == "labelled"
    assert sum(isinstance(x, Labelled) for x in found) == 300
    hh = PairSource(str(shared_data / "hh_rlhf_harmless.jsonl.gz"))
    assert len(list(hh)) == 1996
    found = audit([hh.name], Reading(), near=False, processes=1)
    with gzip.open(hh.name) as stream:
        rows = [json.loads(line) for line in stream]
    prompts = [row["chosen"][: row["chosen"].rfind("\n\nAssistant:")] for row in rows]
    assert len(set(prompts)) == 1998
    kept = {pair.row for pair in hh}
    assert found.prompts == len({p for i, p in enumerate(prompts, 1) if i in kept}) == 1994


HUB_ROWS: dict[str, tuple[str | None, str, list[str]]] = {
    # id -> configuration, split, golden rows that have its documented columns
    "Anthropic/hh-rlhf": (None, "train", ["hh-rlhf"]),
    "OpenAssistant/oasst1": (None, "train", ["oasst-messages"]),
    "OpenAssistant/oasst2": (None, "train", ["oasst-messages"]),
    "argilla/ultrafeedback-binarized-preferences": (None, "train", ["argilla"]),
    "argilla/ultrafeedback-binarized-preferences-cleaned": (None, "train", ["cleaned"]),
    "HuggingFaceH4/ultrafeedback_binarized": (None, "train_prefs", ["implicit-prompt"]),
    "trl-lib/ultrafeedback_binarized": (None, "train", ["trl-lib"]),
    "Intel/orca_dpo_pairs": (None, "train", ["orca"]),
    "openbmb/UltraFeedback": (None, "train", ["rated: UltraFeedback"]),
    "berkeley-nest/Nectar": (None, "train", ["rated: Nectar"]),
    "stanfordnlp/SHP": (None, "train", ["shp"]),
    "nvidia/HelpSteer2": (None, "train", ["helpsteer"]),
    "openai/summarize_from_feedback": ("comparisons", "train", ["summaries"]),
    "lmsys/chatbot_arena_conversations": (None, "train", ["arena"]),
    "allenai/llama-3.1-tulu-3-8b-preference-mixture": (None, "train", ["tulu"]),
}
OTHER_ROWS = {
    "cleaned": {"source": "x", "prompt": "q", "chosen": [u("q"), a("good")], "chosen-rating": 5.0, "chosen-model": "m",
                "rejected": [u("q"), a("bad")], "rejected-rating": 3.75, "rejected-model": "n"},
    "trl-lib": {"chosen": [u("q"), a("good")], "rejected": [u("q"), a("bad")], "score_chosen": 8.5, "score_rejected": 8.0},
    "tulu": {"id": "x", "source": "s", "chosen": [u("q"), a("good")], "rejected": [u("q"), a("bad")], "chosen_rating": 4.0,
             "rejected_rating": 3.0, "chosen_model": "m", "rejected_model": "n", "prompt": "q"},
}  # fmt: skip


@pytest.mark.parametrize("name", list(HUB_ROWS))
def test_known_sets_load_by_id_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    config, split, golden = HUB_ROWS[name]
    rows = [row for key in golden for row in ([OTHER_ROWS[key]] if key in OTHER_ROWS else GOLDEN[key][0])]

    class Loaded(list[Any]):
        def select(self, places: range) -> list[Any]:
            return [self[i] for i in places]

    def load_dataset(*asked: Any, **options: Any) -> Loaded:
        assert asked == (name, config)
        assert options == {"split": split, "revision": None}
        return Loaded(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (pair, *_) = PairSource(name)
    words = [side if isinstance(side, str) else side[-1]["content"] for side in (pair.chosen, pair.rejected)]
    assert words == ["good", "bad"]
