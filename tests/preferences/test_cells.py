"""Cells as what their columns mean, files in the shapes that other tools write, folders of several splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefine.cli import main
from prefine.errors import DataError
from prefine.preferences.cells import read_cells
from prefine.preferences.convert import PairSource, canonical
from prefine.preferences.source import read_rows

ASK = [{"role": "user", "content": "q"}]
GOOD, BAD = [{"role": "assistant", "content": "it's good"}], [{"role": "assistant", "content": "bad"}]
CALL = {"type": "function", "function": {"name": "f", "arguments": {"to": "x"}}}


def read(row: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    return dict(read_cells(row, notes.append)), notes


NUMPY = "[{'content': 'q', 'role': 'user'}\n {'content': 'r', 'role': 'assistant'}]"
SPELLINGS: dict[str, tuple[Any, Any]] = {
    "JSON": (json.dumps(ASK), ASK),
    "Python": (repr(ASK), ASK),
    "numpy": (NUMPY, [*ASK, {"role": "assistant", "content": "r"}]),
    "from and value": ([{"from": "human", "value": "q"}], ASK),
    "capital role": ([{"role": "User", "content": "q"}], ASK),
    "parts": ([{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "r"}]}], [ASK[0] | {"content": "qr"}]),
    "one message": ({"role": "user", "content": "q"}, ASK[0]),
    "field by field": ({"role": ["user", "assistant"], "content": ["q", "r"]}, [*ASK, {"role": "assistant", "content": "r"}]),
    "null fields": ([{"role": "user", "content": "q", "tool_calls": None, "name": None}], ASK),
}


@pytest.mark.parametrize("name", list(SPELLINGS))
def test_messages_in_any_spelling(name: str) -> None:
    written, expected = SPELLINGS[name]
    assert read({"prompt": written})[0]["prompt"] == expected


CALLS: dict[str, dict[str, Any]] = {
    "as OpenAI writes": {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"to": "x"}'}}]},
    "as an object": {"tool_calls": [CALL]},
    "bare": {"tool_calls": [{"name": "f", "arguments": {"to": "x"}}]},
    "as text": {"tool_calls": json.dumps([CALL])},
    "function_call": {"function_call": {"name": "f", "arguments": '{"to": "x"}'}},
    "as LangChain writes": {"tool_calls": [{"name": "f", "args": {"to": "x"}, "type": "tool_call"}]},
    "as Anthropic writes": {"tool_calls": [{"type": "function", "function": {"name": "f", "input": {"to": "x"}}}]},
    "parameters as text": {"tool_calls": [{"function": {"name": "f", "parameters": '{"to": "x"}'}}]},
    "a function's name alone": {"tool_calls": [{"function": "f", "arguments": {"to": "x"}}]},
    "with nulls": {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"to": "x", "from": None}}}]},
}


@pytest.mark.parametrize("name", list(CALLS))
def test_calls_in_any_spelling(name: str) -> None:
    message = {"role": "assistant", "content": None} | CALLS[name]
    assert read({"chosen": [message]})[0]["chosen"] == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
    by_role = {"role": "function_call", "content": '{"name": "f", "arguments": {"to": "x"}}'}
    assert read({"chosen": [by_role]})[0]["chosen"] == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]


def test_a_null_that_was_written_in_text_stays() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"to": null}'}}
    read_call = read({"chosen": [{"role": "assistant", "content": "", "tool_calls": [call]}]})[0]["chosen"][0]["tool_calls"][0]
    assert read_call["function"]["arguments"] == {"to": None}


def test_tools_in_any_spelling() -> None:
    inner = {"name": "f", "parameters": {"type": "object", "properties": {"to": {"type": "string"}}}}
    whole = [{"type": "function", "function": inner}]
    nulls = [{"type": "function", "function": inner | {"strict": None, "parameters": inner["parameters"] | {"required": None}}}]  # type: ignore[operator]
    for written in (whole, [inner], json.dumps(whole), json.dumps([inner]), [json.dumps(inner)], nulls, {"type": "function"} | inner):
        assert read({"tools": written})[0]["tools"] == whole
    as_text = [{"type": "function", "function": inner | {"parameters": json.dumps(inner["parameters"])}}]
    assert read({"tools": as_text})[0]["tools"] == whole


STAYS = (
    {"prompt": "[1, 2, 3]", "chosen": '{"name": "x"}', "rejected": "[]"},
    {"prompt": "write a chat as JSON", "chosen": json.dumps(ASK), "rejected": json.dumps([{"role": "user", "content": "r"}])},
    {"prompt": "write a chat as JSON", "chosen": json.dumps(GOOD), "rejected": "I cannot"},
    {"prompt": '[{"role": "wizard", "content": "q"}]', "chosen": "a", "rejected": "b"},
    {"prompt": '[{"name": "role", "content": "q"}]', "chosen": "a", "rejected": "b"},
    {"prompt": [{"role": "user", "content": '[{"type": "text", "text": "q"}]'}], "chosen": "a", "rejected": "b"},
    {"prompt": "q", "chosen": "{'role': 'x'}", "rejected": "[{not json"},
)


@pytest.mark.parametrize("row", STAYS)
def test_text_that_only_looks_like_json_stays(row: dict[str, Any]) -> None:
    assert read(row) == (row, [])


def test_notes_and_unread_columns_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": i, "prompt": [{"role": "human", "content": f"q{i}"}], "chosen": "a", "rejected": "b", "topic": "x", "empty": ""}
        for i in range(3)
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["data", "show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "changed: role 'human' read as user: 3 rows" in out
    assert "columns that are not read: id, topic\n" in out
    source = PairSource(str(path))
    list(source)
    assert source.summary()["unread_columns"] == ["id", "topic"]
    path.write_text(json.dumps({"messages": [*ASK, {"role": "assistant", "content": "r", "weight": 0}], "label": True}) + "\n")
    assert main(["data", "show", str(path)]) == 0
    assert "the messages' field 'weight' is not read" in capsys.readouterr().out


PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
TWO = [PAIR, PAIR | {"prompt": "r; s"}]
SHAPES: dict[str, tuple[str, str]] = {
    "tabs": ("x.tsv", "prompt\tchosen\trejected\nq\ta\tb\nr; s\ta\tb\n"),
    "tabs in a csv": ("x.csv", "prompt\tchosen\trejected\nq\ta\tb\nr; s\ta\tb\n"),
    "semicolons": ("x.csv", 'prompt;chosen;rejected\nq;a;b\n"r; s";a;b\n'),
    "pandas columns": ("x.json", json.dumps({c: {str(i): r[c] for i, r in enumerate(TWO)} for c in PAIR})),
    "pandas columns under another name": ("x.jsonl", json.dumps({c: {str(i): r[c] for i, r in enumerate(TWO)} for c in PAIR})),
    "pandas index": ("x.json", json.dumps({str(i): r for i, r in enumerate(TWO)})),
    "pandas split": ("x.json", json.dumps({"columns": list(PAIR), "index": [0, 1], "data": [list(r.values()) for r in TWO]})),
    "pandas table": ("x.json", json.dumps({"schema": {}, "data": [{"index": i} | r for i, r in enumerate(TWO)]})),
    "lists": ("x.json", json.dumps({c: [r[c] for r in TWO] for c in PAIR})),
    "one after another": ("x.json", "\n".join(json.dumps(r, indent=2) for r in TWO)),
    "one after another in lines": ("x.jsonl", "\n".join(json.dumps(r, indent=2) for r in TWO)),
    "a list in lines": ("x.jsonl", json.dumps(TWO, indent=1)),
    "one row": ("x.json", json.dumps(PAIR)),
}


@pytest.mark.parametrize("name", list(SHAPES))
def test_shapes_of_files(name: str, tmp_path: Path) -> None:
    file, text = SHAPES[name]
    (tmp_path / file).write_text(text)
    expected = [PAIR] if name == "one row" else TWO
    assert [canonical(p) for p in PairSource(str(tmp_path / file))] == expected


def test_an_arrow_table_with_json_and_maps(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    arrow_json = pa.json_()
    message = pa.struct([("role", pa.string()), ("content", arrow_json)])
    storage = pa.array(['"plain"', '[{"type": "text", "text": "parts"}]'], pa.string())
    contents = pa.ExtensionArray.from_storage(arrow_json, storage)
    messages = pa.StructArray.from_arrays([pa.array(["user", "user"]), contents], fields=[*message])
    lists = pa.ListArray.from_arrays([0, 1, 2], messages)
    kwargs = pa.array([[("enable_thinking", True)], None], pa.map_(pa.string(), pa.bool_()))
    table = pa.table({"prompt": lists, "chosen": ["a", "a"], "rejected": ["b", "b"], "chat_template_kwargs": kwargs})
    parquet.write_table(table, tmp_path / "x.parquet")
    first, second = PairSource(str(tmp_path / "x.parquet"))
    assert (first.prompt[0]["content"], second.prompt[0]["content"]) == ("plain", "parts")  # type: ignore[index]
    assert (first.template_kwargs, second.template_kwargs) == ({"enable_thinking": True}, None)


def folder(place: Path, names: list[str], card: str = "") -> str:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(json.dumps(PAIR | {"prompt": name}) + "\n")
    if card:
        (place / "README.md").write_text(f"---\n{card}\n---\n")
    return str(place)


def prompts(source: str) -> list[str]:
    return [row["prompt"] for _, row in read_rows(source)]


def test_a_clone_is_read_by_its_splits(tmp_path: Path) -> None:
    shards = ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test-00000-of-00001.jsonl"]
    by_name = folder(tmp_path / "a", shards)
    (tmp_path / "a" / "dataset_infos.json").write_text("{}")
    assert prompts(by_name) == shards[:2]
    assert prompts(f"{by_name}:test") == ["data/test-00000-of-00001.jsonl"]
    assert prompts(folder(tmp_path / "b", ["train/x.jsonl", "valid/x.jsonl"])) == ["train/x.jsonl"]
    assert prompts(folder(tmp_path / "c", ["x.jsonl", "y.jsonl"])) == ["x.jsonl", "y.jsonl"]
    assert prompts(folder(tmp_path / "d", ["my_eval_set.jsonl"])) == ["my_eval_set.jsonl"]
    with pytest.raises(DataError, match="holds the splits train_prefs, train_sft; say which"):
        prompts(folder(tmp_path / "e", ["train_prefs-00000-of-00001.jsonl", "train_sft-00000-of-00001.jsonl"]))
    with pytest.raises(DataError, match="other files"):
        prompts(folder(tmp_path / "f", ["train.jsonl", "test.jsonl", "extra.jsonl"]))
    with pytest.raises(DataError, match="no split 'tset'; did you mean 'test'"):
        prompts(f"{by_name}:tset")


def test_a_clone_is_read_by_its_card(tmp_path: Path) -> None:
    card = """configs:
- config_name: en
  data_files:
  - split: train
    path: "en/*.jsonl"
  - split: test
    path: held/en.jsonl
- config_name: fr
  default: true
  data_files: fr/a.jsonl"""
    place = folder(tmp_path / "a", ["en/a.jsonl", "en/b.jsonl", "fr/a.jsonl", "held/en.jsonl", "other.jsonl"], card)
    assert prompts(place) == ["fr/a.jsonl"]
    assert prompts(f"{place}:en:train") == ["en/a.jsonl", "en/b.jsonl"]
    assert prompts(f"{place}:en:test") == ["held/en.jsonl"]
    (tmp_path / "a" / "README.md").write_text(f"---\n{card.replace('  default: true', '')}\n---\n")
    with pytest.raises(DataError, match="configurations en, fr; say which"):
        prompts(place)


def test_a_column_called_label_may_be_a_topic(tmp_path: Path) -> None:
    from prefine.preferences.examples import ExampleSource

    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"messages": [*ASK, *GOOD], "label": label}) + "\n" for label in ("math", "code")))
    assert [e.answer for e in ExampleSource(str(path)).examples()] == [tuple(GOOD)] * 2
    path.write_text("".join(json.dumps({"messages": [*ASK, *GOOD], "label": label}) + "\n" for label in (True, False)))
    assert [e.answer for e in ExampleSource(str(path)).examples()] == [tuple(GOOD), None]


def test_arrays_and_null_like_cells(tmp_path: Path) -> None:
    import numpy as np

    from prefine.preferences.convert import read_pairs

    beside = {"embedding": np.ones(3), "tools": "null", "system": float("nan")}
    row = {"prompt": np.array(ASK), "chosen": np.array(GOOD), "rejected": "bad"} | beside
    (pair,) = read_pairs([row], "rows", {})
    assert (pair.prompt, pair.chosen, pair.tools) == (tuple(ASK), tuple(GOOD), None)
    flat = {"history": ["u", "a"], "prompt": "q", "chosen": "a", "rejected": "b", "system": "Be kind.\n"}
    (pair,) = read_pairs([flat], "rows", {})
    assert [m["content"] for m in pair.prompt] == ["Be kind.\n", "u", "a", "q"]  # type: ignore[index]
    nulls = [{"role": None, "content": None, "from": "human", "value": "q"}]
    assert read({"prompt": nulls})[0]["prompt"] == ASK


def test_a_saved_set_is_read_by_its_splits(tmp_path: Path) -> None:
    import datasets

    parts = {name: datasets.Dataset.from_list([PAIR | {"prompt": name}]) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "both")
    parts["test"].save_to_disk(tmp_path / "one")
    assert prompts(str(tmp_path / "both")) == ["train"]
    assert prompts(f"{tmp_path / 'both'}:test") == ["test"]
    assert prompts(str(tmp_path / "one")) == ["test"]
    source = PairSource(str(tmp_path / "both"))
    list(source)
    assert source.summary()["said"] == [f"{tmp_path / 'both'}: the split train is read, not test"]
    for wrong in (f"{tmp_path / 'both'}:dev", f"{tmp_path / 'one'}:train"):
        with pytest.raises(DataError, match="no split"):
            prompts(wrong)


def test_what_stands_twice_or_says_otherwise_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": asked, "chosen": [*ASK, *GOOD], "rejected": [*ASK, *BAD]} for asked in ("q", "answer in French")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = PairSource(str(path))
    assert len(list(source)) == 1
    assert source.dropped == {"the prompt column says otherwise than the conversations": [2]}
    twice = {"role": "assistant", "content": "a", "reasoning_content": "x", "thinking": "y"}
    assert read({"chosen": [twice]})[1] == ["the messages' field 'thinking' is not read beside other reasoning"]
    typed = [{"type": "reasoning", "text": "why"}, {"type": "text", "text": "a"}]
    assert read({"chosen": [{"role": "assistant", "content": typed}]})[0]["chosen"][0]["reasoning_content"] == "why"
    path.write_text(json.dumps(PAIR | {"extra": "E"}) + "\n")
    assert main(["data", "convert", str(path), str(tmp_path / "out.jsonl")]) == 0
    assert "columns that are not read: extra" in capsys.readouterr().out
