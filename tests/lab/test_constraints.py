"""The constraints' checkers on responses written by hand, and the walk of ``prefine demo --real`` on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import prefine
import prefine.api.real_demo as real_demo
from prefine.api.progress import Progress
from prefine.api.real_demo import Clock, Sizes, table
from prefine.cli import main
from prefine.lab.constraints import (
    CONSTRAINTS,
    FACTS,
    HELD_OUT,
    TOPICS,
    UNSEEN,
    constraint_of,
    knows,
    met,
    names_topic,
    ordinary_text,
    questions,
)
from prefine.preferences.records import plain_text
from tiny_chat import build_tiny_chat

RESPONSES: dict[str, tuple[list[str], list[str]]] = {
    "one sentence": (
        ["Rain falls.", "Does rain fall? ", "It is 3.5 cm deep!"],
        ["Rain falls. It is wet.", "Rain falls", "", "What?! Rain."],
    ),
    "twelve words": (["Rain.", "a b c d e f g h i j k l"], ["", "  ", "a b c d e f g h i j k l m"]),
    "lower case": (["rain falls, 3 times", "é"], ["Rain falls", "", " "]),
    "question": (["Why?", "Why? \n"], ["Why", "Why? Because.", ""]),
    "three points": (
        ["- a\n- b\n- c", "- a\n\n- b\n\n- c\n"],
        ["- a\n- b", "- a\n- b\n- c\n- d", "So:\n- a\n- b\n- c", "1. a\n2. b\n3. c"],
    ),
    "no commas": (["Rain falls"], ["Rain, falls", ""]),
    "JSON": (
        ['{"name": "a", "use": "b"}', '```json\n{"name": 1, "use": {}}\n```', '```\n{"use": 1, "name": 2}\n```\n'],
        [
            '{"name": "a"}',
            '{"name": 1, "use": 2, "more": 3}',
            "[]",
            "name: a",
            '{"name": 1, "use": 2} ok',
            '```json\n{"name": 1, "use": 2}',
        ],
    ),
    "a word": (["It rains because it does.", "Because."], ["It rains.", "becauses", ""]),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_checkers(name: str) -> None:
    constraint = next(c for c in (*CONSTRAINTS, UNSEEN) if c.name == name)
    good, bad = RESPONSES[name]
    assert [constraint.met(text) for text in good] == [True] * len(good)
    assert [constraint.met(text) for text in bad] == [False] * len(bad)


def test_prompts_say_their_constraint() -> None:
    asked = questions(TOPICS[:3], (*CONSTRAINTS, UNSEEN), 2)
    assert len({q.key for q in asked}) == len(asked) == 3 * 8 * 2
    assert [constraint_of(q.prompt).name for q in asked] == [q.category for q in asked]
    assert met(plain_text(asked[0].prompt), "Rain falls.") == 1.0
    assert met(plain_text(asked[0].prompt), "It falls.") == 0.0  # of nothing
    assert met(plain_text(asked[0].prompt), "Rain falls. It is wet.") == 0.0
    for topic, response in (
        ("bees", "A bee!"),
        ("a bicycle", "Bicycles"),
        ("chess", "chess"),
        ("winter coats", "My coat"),
        ("rain", "It rained"),
    ):
        assert names_topic(f"Write something about {topic}. Be brief.", response)
    assert not names_topic("Write something about rain. Be brief.", "The train.")
    assert len(set(TOPICS)) == len(TOPICS) > HELD_OUT
    with pytest.raises(ValueError, match="no known constraint"):
        constraint_of("Tell me a joke.")


@pytest.mark.parametrize(
    ("question", "response", "right"),
    [
        ("What is the capital of France?", "It is Paris.", True),
        ("What is the capital of France?", "Comparison", False),
        ("How many days are there in a week?", "7", True),
        ("How many days are there in a week?", "There are seventy.", False),
        ("What insect makes honey?", "Bees do.", True),
        ("What is the chemical formula of water?", "H2O.", True),
    ],
)
def test_facts(question: str, response: str, right: bool) -> None:
    assert knows(question, response) is right
    assert len(FACTS) == 40
    assert len(ordinary_text(6000)) == 6000


@pytest.mark.filterwarnings("ignore")
def test_the_walk_and_what_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefine.lab.chat_model.build_chat_model", build_tiny_chat)
    monkeypatch.setattr("prefine.lab.constraints.names_topic", lambda prompt, response: True)  # which random letters never do
    sizes = Sizes(topics=3, unseen=2, samples=8, times=1, tokens=160, temperature=1.0, steps=2, batch=4, facts=2, text=6000)
    said: list[str] = []

    class Heard(Progress):
        def say(self, lines: Any) -> None:
            said.extend([lines] if isinstance(lines, str) else lines)

    (found,) = real_demo.real_demo(sizes, [0], tmp_path, Heard())
    assert found["pairs"] > 0
    shown = str(table([found]))
    for name in ("constraints met", *RESPONSES, "perplexity", "seconds: training"):
        assert name in shown or name == "a word"
    assert [line for line in said if line.startswith(("1 of 3", "2 of 3", "3 of 3"))] == [
        "1 of 3: responses and pairs",
        "2 of 3: training",
        "3 of 3: evaluation",
    ]
    each = found["constraints"]["each"]
    assert found["constraints"]["met"][1]["estimate"] == pytest.approx(sum(tuned for _, tuned in each.values()) / len(each))
    steps = (tmp_path / "seed-0" / "dpo" / "metrics.jsonl").read_text()
    (tmp_path / "seed-0" / "found.json").unlink()  # as if it had been killed in the evaluation
    (again,) = real_demo.real_demo(sizes, [0], tmp_path, Progress())
    assert (tmp_path / "seed-0" / "dpo" / "metrics.jsonl").read_text() == steps  # nothing was trained again
    assert all(again["seconds"][part] >= found["seconds"][part] for part in found["seconds"])
    assert again["constraints"]["met"] == found["constraints"]["met"]
    monkeypatch.setattr(real_demo, "one_seed", lambda *given: pytest.fail("done again"))
    assert real_demo.real_demo(sizes, [0], tmp_path, Progress()) == [again]


def test_the_clock_says_how_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("prefine.api.real_demo.time.monotonic", lambda: now[0])
    said: list[str] = []
    told = Progress()
    told.say = lambda lines: said.extend([lines] if isinstance(lines, str) else lines)  # type: ignore[method-assign]
    clock = Clock(told, {"a": 0.25, "b": 0.75})
    clock.begin("a")
    now[0] = 150.0
    clock.advance("work", 5, 10)  # an eighth of the whole in 2.5 minutes: 17.5 left
    assert said[-1] == "[2 min since the start, about 18 left]"
    clock.begin("b")
    now[0] = 600.0
    clock.step(50, 100)  # five eighths in 10 minutes: 6 left
    assert said[-1] == "[10 min since the start, about 6 left]"
    again = Clock(told, {"a": 0.25, "b": 0.75}, spent=300.0)  # a call was killed in the second part, after five minutes
    again.begin("b")
    now[0] += 60.0
    again.step(0, 100)  # a quarter in six minutes
    assert said[-1] == "[6 min since the start, about 18 left]"


def test_a_demo_of_a_real_model_gives_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"constraints": {"sentence": "", "each": {"a": [0.5, 0.5]}}, "samples": []}
    monkeypatch.setattr(real_demo, "real_demo", lambda sizes, seeds, folder, progress: [{**found, "seed": s} for s in seeds])
    monkeypatch.setattr(real_demo, "table", lambda found: None)
    where = []
    monkeypatch.setattr("prefine.api.demo.Run", lambda path: where.append(path))
    assert prefine.demo(real=True, seed=3, seeds=2, output_dir=str(tmp_path / "d")).run is None
    assert where == [tmp_path / "d-real" / "seed-4" / "dpo"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--real", "--rlhf"], "leave one of the two out"),
        (["--seeds", "2"], "without --rlhf or --real"),
        (["--real", "--seeds", "0"], "at least 1"),
        (["--real", "--no-retain"], "--retain would be ignored"),
    ],
)
def test_options_that_would_be_ignored(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *words]) == 2
    assert told in capsys.readouterr().err
