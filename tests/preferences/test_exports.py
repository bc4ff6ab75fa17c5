"""Whole export files, written from the tools' documentation and source by somebody who had not read the readers: what a careful reader
gets of them, by hand, and that nothing else comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefine.preferences.convert import PairSource
from prefine.preferences.labels import labelled_rows
from prefine.preferences.records import Dropped, Labelled, Pair, Ranked, Record, plain_text

EXPORTS = Path(__file__).parent / "exports"
RLHF = [
    "Run `git reset  > Delete the .git",
    "No. 91 = 7 × 13 > Yes, 91 is prim",
    '直訳はありません。職場なら " > You are tired.',
]
BUCKETS = ["The Ottoman sie > Cannons and a l", "About 4,806 m. > Around 4.8 km."]
THUMBS = ["+ Rain taps on th", "- 10 km is 16.1 m"]
TRACES = ["+ It runs the que", "- Yes, Kyoto is t", "- Because of the ", '+ "cat" です 🐱']
GRADED = ["+ The capital of ", "- Paris, which is", "- 1. Boil water 2", "+ - Boil water\n- ", "- Because they ar"]
MUTEX = ["A lock that let > A lock."]
EXPECTED: dict[str, list[str]] = {
    # Two people said the same, and one draft, one prediction and one cancelled vote otherwise.
    **{f"label_studio/rlhf_preference.{kind}": RLHF for kind in ("json", "json_min.json", "csv")},
    "label_studio/pairwise_legacy_completions.json": ["I'm a teapot, f > Server overload", "9 to 12 minutes > 1 minute"],
    # The task's own rating, a grader's, has the name of the people's.
    **{f"label_studio/rating_thumbs.{kind}": THUMBS for kind in ("json", "json_min.json", "csv")},
    **{
        f"label_studio/rating_two_responses.{kind}": ["DNS turns names > It is internet ", "That is too oft > Water it more."]
        for kind in ("json", "csv")
    },
    # Which bucket is the better one is not said; those that lie in none are in no order.
    **{f"label_studio/llm_ranker_buckets.{kind}": BUCKETS for kind in ("json", "json_min.json", "csv")},
    "label_studio/llm_ranker_simple.json": ["A function that > A function that > See recursion.", "A measure of ho > Disorder."],
    "label_studio/chatbot_assessment.json": ["- That depends on"],  # seven steps, which it does not say
    # Nested records do not say which answers were sent off.
    "argilla/v2_records_to_json.json": MUTEX,
    **{f"argilla/{name}.json": [*MUTEX, "[1, 2, 3] > [3, 2, 1]"] for name in ("v2_to_list_flat", "v2_to_dict_names_flat")},
    "argilla/v2_to_dict_index.json": ["The Pacific Oce > Pacific > Lake Como", "299,792,458 m/s > 3e8 m/s > fast"],
    "argilla/v2_hub_export_ranking.jsonl": ["Steep, sip, smi > Tea. > Buy now", "Yes = Yes, 17 is prim > No", "Ace > Queen > Joker"],
    "argilla/v1_feedback_hub.jsonl": [
        "A loan with sma > A loan.",
        "I can't help wi > Use a tension w",
        "Un chat est end > Le chat dort.",
    ],
    "argilla/v1_early_hub.jsonl": ["Pasta with garl > Food.", "100 °C > 90 °C"],
    "argilla/v2_datasets_chat_rating.jsonl": [],  # of how many steps?
    "langfuse/traces_ui.csv": TRACES,
    "langfuse/traces_ui.jsonl": TRACES,
    "langfuse/api_traces_page.json": [],
    "langsmith/runs.jsonl": ["+ Eight.", "- Burro", "+ Botanically yes", "+ 「どういたしまして」です 😊"],
    "langsmith/experiment_results.csv": ["+ Eight.", "- Burro", "+ Botanically yes"],
    # The thumb of one was taken back; a person's goes before the grader's; an API's error is none.
    **{f"promptfoo/{name}": [*GRADED, '+ {"translation":'] for name in ("output.jsonl", "output_v3.json")},
    "promptfoo/output_v2_table.json": GRADED[:4],
    "open_webui/feedback_export.json": [
        *("+ About one and a", "- Deutschland hat", "+ Use `list(rever", "- Sorry.", "+ 10*11/2\nThe sum", "+ Soft green on t"),
    ],
    "open_webui/chat_export_all.json": ["+ Usually 8 to 12", "- Bikes.", "+ Two wheels, no ", "- Rain again. #we"],
    **{f"openai/eval_output_items.{kind}": ["+ Markets", "- Sports", "- Nope."] for kind in ("json", "jsonl")},
    "openai/preference_finetune.jsonl": [
        "It is -3 °C in  > It is not very ",
        "Memory safety w > Many things, it",
        '{"arguments": { > Sunny, probably',
        "감사합니다 (gamsaham > arigatou",
    ],
    "openai/stored_completions_list.json": [],
}


def told(record: Record) -> str:
    """A record's responses, best first, ten or so letters of each."""
    if isinstance(record, Labelled):
        return f"{'+' if record.label else '-'} {plain_text(record.answer)[:15]}"
    if isinstance(record, Pair):
        return f"{plain_text(record.chosen)[:15]} > {plain_text(record.rejected)[:15]}"
    assert isinstance(record, Ranked)
    texts = [plain_text(a)[:15] for a in record.answers]
    signs = [" = " if a == b else " > " for a, b in zip(record.scores, record.scores[1:], strict=False)]
    return "".join(f"{text}{sign}" for text, sign in zip(texts, [*signs, ""], strict=True))


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_read_of_an_export(name: str) -> None:
    source = PairSource(str(EXPORTS / name))
    found = [told(record) for record in source.records() if not isinstance(record, Dropped)]
    assert found == EXPECTED[name]


def test_what_is_left_out_is_told() -> None:
    """As reasons with their counts, by row: a label's absence is told from one that is not clear."""
    source = PairSource(str(EXPORTS / "label_studio/rating_thumbs.json"))
    left = [record for record in source.records() if isinstance(record, Dropped)]
    assert {d.number: d.reason for d in left} == {
        3: "no rating that is yes or no",
        4: "its ratings differ",
        5: "nobody rated it",
        6: "its ratings differ",
        7: "nobody rated it",
        8: "no response among its fields",
    }
    found = PairSource(str(EXPORTS / "openai/stored_completions_list.json")).records()
    assert {d.reason for d in found if isinstance(d, Dropped)} == {
        "its prompt is not in it; add what chat/completions/ID/messages lists as 'messages'"
    }


def test_stored_completions_with_their_messages() -> None:
    """As two of the API's answers give them together."""
    messages = [json.loads(line) for line in (EXPORTS / "openai/stored_completions_messages.jsonl").read_text().splitlines()]
    rows = json.loads((EXPORTS / "openai/stored_completions_list.json").read_text())["data"]
    joined = [row | {"messages": page["data"]} for row, page in zip(rows, messages, strict=True)]
    dropped: dict[str, list[int]] = {}
    found = list(labelled_rows(joined, "stored", dropped))
    assert [told(record) for record in found] == ["+ Mind of circuit", "- The Great Wall "]
    assert plain_text(found[0].prompt) == "write a haiku about ai"
    assert sum(map(len, dropped.values())) == 4
