"""What messages say is in the ids: every template, random conversations, small files on which it once was not."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefine.errors import DataError
from prefine.packing.encoding import Encoder
from prefine.packing.group import weights_of
from prefine.packing.rendering import IN_FIRST, LeftOut, Renderer, read_template_kwargs
from prefine.packing.store import GroupStore
from prefine.preferences import Pair
from prefine.preferences.convert import PairSource, Reading, canonical
from prefine.preferences.examples import ExampleSource
from template_matrix import (
    CALL,
    FAMILIES,
    PARTS,
    RESULT,
    TOOL,
    byte_tokenizer,
    family,
    outcome,
    said,
    shipped,
    trl_template,
    user,
    words_of,
)

ALL = {**{name: family for name in FAMILIES}, **{f"trl:{name}": (lambda n: trl_template(n.removeprefix("trl:"))) for name in shipped()}}


def decoded(encoder: Encoder, ids: Any) -> str:
    return str(encoder.tokenizer.decode(list(map(int, ids)), skip_special_tokens=False))


@pytest.mark.parametrize("name", list(ALL))
def test_nothing_is_lost_in_silence(name: str) -> None:
    """Of every part, either all its words are in the decoded ids, each in its place, or there is a reason."""
    tokenizer = ALL[name](name)
    for part, (prompt, answer, tools) in PARTS.items():
        encoder = Encoder(tokenizer)
        group = encoder.encode(prompt, [answer], 1, tools)
        what, why = outcome(tokenizer, part)
        if group is None:
            assert what == "dropped"
            assert encoder.report.dropped == {why: [1]}
            continue
        assert what in ("rendered", "converted")
        asked, learned = decoded(encoder, group.prompt_ids), group.completion_ids[0][weights_of(group) == 1]
        for word in words_of(part):
            in_answer = word in json.dumps([m for m in answer if m["role"] == "assistant"])
            assert word in (decoded(encoder, learned) if in_answer else asked + decoded(encoder, group.completion_ids[0])), (part, word)
        assert "toolresult" not in decoded(encoder, learned)


def test_templates_that_drop_do_so_here() -> None:
    """The check itself can fail: what these templates leave out was seen by eye."""
    assert outcome(family("chatml"), "tools") == ("dropped", "the chat template leaves out the tools")
    assert outcome(family("qwen25"), "developer") == ("converted", "a developer's message written as the system's")
    assert outcome(family("phi3"), "tool result")[1].startswith("the chat template leaves out a tool call")
    assert outcome(family("gemma2"), "system") == ("converted", IN_FIRST)
    assert outcome(family("gemma2"), "tool result")[0] == "dropped"
    assert outcome(family("qwen3"), "calls within the response") == ("rendered", "")


WORD = st.text(string.ascii_lowercase, min_size=3, max_size=8)
TEXT = st.lists(st.one_of(WORD, st.text(min_size=1, max_size=12)), min_size=1, max_size=4).map(" ".join)


@st.composite
def conversations(draw: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], Any, list[str]]:
    """A prompt, an answer, tools, and the words that were put in, each once."""
    words: list[str] = []

    def text() -> str:
        words.append(f"w{len(words):03d}{draw(st.sampled_from(('x', 'é', '漢', '<b>', '{{a}}', '&amp;')))}")
        around = draw(TEXT).replace("think>", "")
        return f"{words[-1]} {around} {words[-1]}"

    def turn() -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text()}
        kind = draw(st.sampled_from(("plain", "plain", "plain", "reasoning", "call", "think")))
        if kind == "reasoning":
            message["reasoning_content"] = text()
        elif kind == "think":
            message["content"] = f"<think>\n{text()}\n</think>\n\n{message['content']}"
        elif kind == "call":
            arguments = {f"key{len(words)}": draw(st.one_of(st.builds(text), st.integers(), st.booleans()))}
            message["tool_calls"] = [{"id": "abcdefghi", "type": "function", "function": {"name": "fnname", "arguments": arguments}}]
            if draw(st.booleans()):
                message["content"] = ""
        return message

    opening = draw(st.sampled_from(((), ("system",), ("developer",))))
    prompt = [{"role": role, "content": text()} for role in opening] + [user(text())]
    for _ in range(draw(st.integers(0, 2))):
        answer = turn()
        follow = (
            {"role": "tool", "tool_call_id": "abcdefghi", "name": "fnname", "content": text()} if "tool_calls" in answer else user(text())
        )
        prompt += [answer, follow]
    answer_turns = [turn()]
    if "tool_calls" in answer_turns[0] and draw(st.booleans()):
        answer_turns += [{"role": "tool", "tool_call_id": "abcdefghi", "name": "fnname", "content": text()}, said(text())]
    whole = json.dumps([prompt, answer_turns], ensure_ascii=False)
    return tuple(prompt), tuple(answer_turns), [TOOL] if draw(st.booleans()) else None, [w for w in words if w in whole]


@pytest.mark.parametrize(
    "name", ["qwen3", "qwen25", "deepseek_r1", "mistral_v3", "llama31", "gptoss", "gemma3", "hermes3", "smollm3", "qwen35"]
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=conversations())
def test_random_conversations(name: str, case: Any) -> None:
    """All that is kept is found in the decoded ids; reasoning of earlier turns may be left out, and a note says so."""
    prompt, answer, tools, words = case
    encoder = Encoder(family(name))
    group = encoder.encode(prompt, [answer], 1, tools)
    if group is None:
        assert len(encoder.report.dropped) == 1
        return
    whole = decoded(encoder, group.prompt_ids) + decoded(encoder, group.completion_ids[0])
    earlier = [m.get("reasoning_content") or m["content"].partition("</think>")[0] for m in prompt if m["role"] == "assistant"]
    thoughts_left_out = any(note.startswith("reasoning of earlier turns") for note in encoder.report.notes)
    for word in words:
        if thoughts_left_out and any(word in thought for thought in earlier):
            continue
        assert word in whole or json.dumps(word)[1:-1] in whole, word
    if tools:
        assert "keydescription" in whole
        assert "toolname" in whole


def test_generation_prompts_of_reasoning_models() -> None:
    """The response is what the model has to say after its generation prompt, checked by hand for the two directions."""
    pytest.importorskip("trl")  # its templates
    plain = Pair((user("q"),), (said("good"),), (said("bad"),), 1)
    thought = Pair((user("q"),), (said("<think>\nmap\n</think>\n\ngood"),), (said("<think>\nguess\n</think>\n\nbad"),), 1)

    def shown(name: str, pair: Pair, **kwargs: Any) -> list[str]:
        encoder = Encoder(trl_template(name), template_kwargs=kwargs or None)
        (group,) = encoder.encode_pairs([pair])
        return [decoded(encoder, ids) for ids in (group.prompt_ids, *group.completion_ids)]

    asked = "<s><｜User｜>q<｜Assistant｜>"
    assert shown("deepseek_r1_distill", plain) == [asked, "good<｜end▁of▁sentence｜>", "bad<｜end▁of▁sentence｜>"]
    opened = [asked + "<think>\n", "map\n</think>\n\ngood<｜end▁of▁sentence｜>", "guess\n</think>\n\nbad<｜end▁of▁sentence｜>"]
    assert shown("deepseek_r1_distill", thought) == opened
    head = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert shown("qwen3_5_nothink", plain) == [head + "<think>\n\n</think>\n\n", "good<|im_end|>\n", "bad<|im_end|>\n"]
    assert shown("qwen3_5_nothink", thought)[0] == head + "<think>\n"
    assert shown("qwen3_5_nothink", thought)[1] == "map\n</think>\n\ngood<|im_end|>\n"
    assert shown("qwen3_5_nothink", thought, enable_thinking=True)[0] == head + "<think>\n"
    assert shown("qwen3", plain) == [head, "<think>\n\n</think>\n\ngood<|im_end|>\n", "<think>\n\n</think>\n\nbad<|im_end|>\n"]


def test_only_the_models_own_turns_count(tmp_path: Path) -> None:
    """Ids and weights by hand, and the same again from a store on disk."""
    encoder = Encoder(family("chatml"))
    answer = (said("one"), user("two"), said("three"))
    group = encoder.encode((user("q"),), [answer, (said("no"),)], 3)
    assert group is not None
    weights = weights_of(group)
    first, second = group.completion_ids
    learned = decoded(encoder, first[weights[: len(first)] == 1])
    assert learned == "one<|im_end|>\nthree<|im_end|>\n"
    assert decoded(encoder, first[weights[: len(first)] == 0]) == "<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
    assert weights[len(first) :].all()
    assert len(weights) == len(first) + len(second)
    plain = encoder.encode((user("r"),), [(said("x"),), (said("y"),)], 4)
    assert plain is not None
    store = GroupStore.write(tmp_path / "store", [plain, group, plain], dict)
    assert np.array_equal(weights_of(store[1]), weights)
    assert weights_of(store[0]).all()
    assert weights_of(store[2]).all()


@pytest.mark.filterwarnings("ignore")
def test_dpo_sums_the_models_own_tokens(tmp_path: Path) -> None:
    """The loss of a pair whose answers hold a user's turn, against plain forwards with those tokens left out."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from prefine import DPOConfig, DPOTrainer
    from prefine.scoring.scorer import plain_token_logps

    tokenizer = family("chatml")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = AutoModelForCausalLM.from_config(Qwen2Config(vocab_size=len(tokenizer), **sizes))
    rows = [{"prompt": [user("q")], "chosen": [said("one"), user("two"), said("three")], "rejected": [said("no")]}]
    args = DPOConfig(output_dir=str(tmp_path), loss_type=["ipo"], beta=0.2, max_steps=1, report_to="none", use_cpu=True)
    trainer = DPOTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    (group,) = list(trainer.train_dataset)
    with torch.no_grad():
        found = float(trainer.batch_loss([group]).loss)
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        moved = float(trainer.batch_loss([group]).loss)
    assert found == pytest.approx((1 / (2 * 0.2)) ** 2, rel=1e-4)  # at the start the policy is its reference
    weights = torch.from_numpy(weights_of(group))
    length = len(group.completion_ids[0])
    policy = plain_token_logps(trainer.scorer.unwrapped, group) * weights
    assert trainer.reference is not None
    reference = plain_token_logps(trainer.reference.scorer.unwrapped, group) * weights
    gain = policy - reference
    per_token = gain[:length].sum() / weights[:length].sum() - gain[length:].sum() / weights[length:].sum()
    assert moved == pytest.approx(float((per_token - 1 / (2 * 0.2)) ** 2), rel=1e-4)


def test_an_end_token_alone_is_an_empty_answer() -> None:
    encoder = Encoder(family("chatml"))
    assert encoder.encode((user("q"),), [(said(" "),)], 5) is None
    assert encoder.report.dropped == {"response is empty: an end token alone": [5]}


def test_no_template_has_no_place_for_these() -> None:
    bare = byte_tokenizer(None)
    with pytest.raises(LeftOut, match="no place for tools"):
        Renderer(bare).render((user(),), [(said(),)], [TOOL])
    with pytest.raises(LeftOut, match="tool calls"):
        Renderer(bare).render((user(),), [(CALL,)])
    with pytest.raises(LeftOut, match="reasoning"):
        Renderer(bare).render((user(),), [(said(reasoning_content="x"),)])
    with pytest.raises(LeftOut, match="'tool'"):
        Renderer(bare).render((user(), CALL | {"tool_calls": None, "content": "x"}, RESULT), [(said(),)])


def test_template_kwargs_by_option_row_and_folder(tmp_path: Path) -> None:
    tokenizer = family("qwen3")
    off = Encoder(tokenizer, template_kwargs={"enable_thinking": False})
    empty_thought = "<think>\n\n</think>\n\n"
    assert decoded(off, off.prompt_ids((user("q"),))).endswith(empty_thought)
    assert not decoded(off, off.prompt_ids((user("q"),), None, {"enable_thinking": True})).endswith(empty_thought)
    tokenizer.init_kwargs["chat_template_kwargs"] = {"enable_thinking": False}
    tokenizer.save_pretrained(tmp_path)
    from prefine.scoring.loading import load_tokenizer

    again = Encoder(load_tokenizer(str(tmp_path)))
    assert decoded(again, again.prompt_ids((user("q"),))).endswith(empty_thought)
    assert read_template_kwargs("enable_thinking=false style=brief n=2") == {"enable_thinking": False, "style": "brief", "n": 2}
    for wrong in ("enable_thinking", "{", "tools=1", "[1]"):
        with pytest.raises(DataError.__base__, match="chat_template_kwargs"):
            read_template_kwargs(wrong)


def test_turns_that_end_otherwise_when_last() -> None:
    """Phi-3 ends a finished text with another token, gpt-oss its last answer: earlier turns are told apart all the same."""
    for name, ends in (("phi3", "one<|end|>\n"), ("gptoss", "one")):
        encoder = Encoder(family(name))
        group = encoder.encode((user("q"),), [(said("one"), user("two"), said("three"))], 1)
        assert group is not None
        learned = decoded(encoder, group.completion_ids[0][weights_of(group) == 1])
        assert ends in learned
        assert "two" not in learned
        assert "three" in learned


def test_answers_that_differ_in_nothing_that_counts() -> None:
    encoder = Encoder(family("chatml"), max_length=60)
    sides = [(said("one"), user(f"{word} and much more than fits into sixty tokens of bytes"), said(word)) for word in ("two", "three")]
    assert encoder.encode((user("q"),), sides, 1) is None
    assert encoder.report.dropped == {"responses are equal once truncated or tokenised": [1]}


def test_switches_and_odd_schemas_are_no_loss() -> None:
    system = {"role": "system", "content": "Be kind. /no_think"}
    for name in ("smollm3", "nemotron_nano"):
        assert Encoder(family(name)).encode((system, user()), [(said(),)], 1) is not None
    function = TOOL["function"] | {"return": {"type": "string", "description": "what comes back"}}  # type: ignore[operator]
    nested = {"type": "array", "items": {"type": "string", "description": "one of them"}}
    function = function | {"parameters": {"type": "object", "description": "all", "properties": {"names": nested}}}
    for name in ("gptoss", "command_a", "qwen3"):
        assert Encoder(family(name)).encode((user(),), [(said(),)], 1, [TOOL | {"function": function}]) is not None


# ---- small files on which it once was wrong

CASES = {
    "openai_developer_role.jsonl": ("qwen2_5", 12, "Answer in one line only."),
    "roles_prompt_only_Human.jsonl": ("qwen2_5", 12, "Which bird is 0?"),
    "reasoning_content.jsonl": ("qwen3", 12, "The map shows 0 squares."),
    "think_in_content.jsonl": ("deepseek_r1_distill", 12, "The map shows 0 squares."),
    "alpaca_history.jsonl": ("qwen2_5", 12, "Name a town in Tuscany."),
    "system_text_prompt_messages.jsonl": ("qwen2_5", 12, "Answer in one line."),
    "rated_system_messages.jsonl": ("qwen2_5", 12, "Answer in one line."),
    "system_prompt_column.jsonl": ("qwen2_5", 12, "Answer in one line."),
    "messages_json_strings.jsonl": ("qwen2_5", 12, "user\nWhich bird is 0?"),
    "messages_json_strings.parquet": ("qwen2_5", 12, "user\nWhich bird is 0?"),
    "messages_pyrepr.csv": ("qwen2_5", 12, "user\nWhich bird is"),
    "mixed_content_hf.parquet": ("qwen2_5", 12, "user\nWhich bird is 0?"),
    "tools_hf_json.parquet": ("qwen2_5", 12, '"a": {"type": "number"}'),
    "tools_same.jsonl": ("qwen2_5", 12, '{"name": "sum", "arguments": {"a": 1.0, "b": 0.0}}'),
    "openai_toolcalls.jsonl": ("qwen2_5", 12, '{"name": "dist", "arguments": {"to": "town 0"}}'),
    "roles_Human_Assistant.jsonl": ("qwen2_5", 12, "user\nWhich bird is 0?"),
    "multiturn_answers.jsonl": ("qwen2_5", 12, "USERTURN from Rome."),
    "one_system_row.jsonl": ("gemma", 12, "Which bird is number 0?"),
    "same_words_other_call.jsonl": ("qwen2_5", 12, '"weather"'),
    "think_only_differs_content.jsonl": ("deepseek_r1_distill", 12, "I guess so."),
    "axolotl_messages.jsonl": ("qwen2_5", 12, "Lake 0: north."),
    "hub_clone": ("qwen2_5", 12, "A wren, 0, train."),
}
DROPPED = {
    "reasoning_content.jsonl": ("llama3", "the chat template leaves out reasoning"),
    "tools_same.jsonl": ("gemma3", "the chat template leaves out the tools, a tool call, a tool call's arguments"),
    "openai_toolcalls.jsonl": ("llama3", "the chat template leaves out the tools, a tool call, a tool call's arguments"),
}
SFT_CASES = {
    "sft_reasoning.jsonl": ("qwen3", 12, "Small and brown, number 0."),
    "sft_alpaca.jsonl": ("qwen2_5", 12, "Be kind."),
    "sft_content_parts.jsonl": ("smolvlm", 12, "Which bird is 0?"),
    "sft_mixed_system.jsonl": ("gemma", 12, "A wren, 0."),
    "sft_roles_gpt.jsonl": ("qwen2_5", 12, "A wren, 0."),
}


@pytest.fixture(scope="session")
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("no small inputs here")
    return folder


@pytest.mark.parametrize("name", list(CASES))
def test_small_files(name: str, cases: Path) -> None:
    template, count, words = CASES[name]
    encoder = Encoder(trl_template(template))
    groups = [g for pair in PairSource(str(cases / name)) if (g := encoder.encode_pair(pair)) is not None]
    texts = [" ".join(decoded(encoder, ids) for ids in (g.prompt_ids, *g.completion_ids)) for g in groups]
    assert len(groups) == count
    assert any(words in text for text in texts)
    assert not any("\\\\u" in text or '\\"role' in text or ": None" in text for text in texts)


BRIEF = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which bird?"})


@pytest.mark.parametrize("template", ["gemma2", "gemma3", "mistral_v1"])
@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_stands_in_the_first_question_where_it_has_no_place(template: str, role: str) -> None:
    """As gemma 3's own template writes it; in the prompt of training, of sampling, and of later turns alike."""
    tokenizer = family(template)
    encoder = Encoder(tokenizer)
    asked = ({**BRIEF[0], "role": role}, BRIEF[1])
    later = (*asked, {"role": "assistant", "content": "A heron."}, {"role": "user", "content": "And now?"})
    for prompt in (asked, later):
        text = encoder.tokenizer.decode(encoder.prompt_ids(prompt, None, None))
        folded = ({"role": "user", "content": "Be brief.\n\nWhich bird?"}, *prompt[2:])
        if template != "mistral_v1" or prompt is asked:
            assert text == encoder.tokenizer.decode(encoder.prompt_ids(folded, None, None))
        assert text.count("Be brief.") == 1
        pair = Pair(prompt, ({"role": "assistant", "content": "A stork."},), ({"role": "assistant", "content": "No."},), 1)
        group = encoder.encode_pair(pair)
        assert group is not None
        assert text.startswith(encoder.tokenizer.decode(group.prompt_ids))
    assert any(IN_FIRST in note for note in encoder.renderer.notes) == (template == "gemma2")


@pytest.mark.parametrize("name", list(DROPPED))
def test_small_files_are_dropped_with_the_reason(name: str, cases: Path) -> None:
    template, reason = DROPPED[name]
    with pytest.raises(DataError, match=reason):
        list(Encoder(trl_template(template)).encode_pairs(PairSource(str(cases / name))))


@pytest.mark.parametrize("name", list(SFT_CASES))
def test_small_files_of_examples(name: str, cases: Path) -> None:
    template, count, words = SFT_CASES[name]
    encoder = Encoder(trl_template(template))
    groups = [g for example in ExampleSource(str(cases / name)).examples() for g in encoder.encode_example(example)]
    assert len(groups) == count
    assert words in " ".join(decoded(encoder, ids) for ids in (groups[0].prompt_ids, *groups[0].completion_ids))


def test_small_files_that_are_no_answers(cases: Path) -> None:
    for name in ("rejected_role_user.jsonl", "system_column_messages.jsonl"):
        with pytest.raises(DataError, match="the response is of the role 'user', not the assistant's"):
            list(PairSource(str(cases / name)))


def test_prompts_are_told_apart_by_their_input(cases: Path) -> None:
    from prefine.evaluation.questions import read_questions

    assert len(read_questions(str(cases / "prompts_alpaca_input.jsonl"))) == 6


def test_calls_tell_records_apart(cases: Path, tmp_path: Path) -> None:
    from prefine.audit.audit import audit
    from prefine.cli import main

    out = tmp_path / "out.jsonl"
    assert main(["data", "dedup", str(cases / "dups_but_for_calls.jsonl"), str(out)]) == 0
    assert len(out.read_text().splitlines()) == 6
    told = audit([str(cases / "same_words_other_call.jsonl")], Reading()).summary()
    found = {f["check"]: f["count"] for f in told["findings"]}
    assert found["equal-normalised"] == 0


# ---- one conversation, every form, every command

A, B = "It lies north.", "Cannot say."
SYSTEM, FIRST, REPLY, QUESTION = "Be brief.", "Name a lake.", "Como.", "Where does it lie?"
HISTORY = [{"role": "user", "content": FIRST}, {"role": "assistant", "content": REPLY}]
ASKED = [{"role": "system", "content": SYSTEM}, *HISTORY, {"role": "user", "content": QUESTION}]
GOOD, BAD = {"role": "assistant", "content": A}, {"role": "assistant", "content": B}
SHAREGPT_ASKED = [{"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]} for m in ASKED]
ONE_CONVERSATION: dict[str, dict[str, Any]] = {
    "pairs": {"prompt": ASKED, "chosen": [GOOD], "rejected": [BAD]},
    "pairs with columns": {"system_prompt": SYSTEM, "history": [[FIRST, REPLY]], "prompt": QUESTION, "chosen": A, "rejected": B},
    "pairs as text": {"prompt": json.dumps(ASKED), "chosen": json.dumps([GOOD]), "rejected": json.dumps([BAD])},
    "pairs as printed by Python": {"prompt": repr(ASKED), "chosen": repr([GOOD]), "rejected": repr([BAD])},
    "implicit": {"chosen": [*ASKED, GOOD], "rejected": [*ASKED, BAD]},
    "sharegpt": {"conversations": SHAREGPT_ASKED, "chosen": {"from": "gpt", "value": A}, "rejected": {"from": "gpt", "value": B}},
    "messages": {"messages": ASKED, "chosen": GOOD, "rejected": BAD},
    "swift": {"messages": [*ASKED, GOOD], "rejected_response": B},
    "openai": {"input": {"messages": ASKED}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "alpaca": {"instruction": QUESTION, "system": SYSTEM, "history": HISTORY, "chosen": A, "rejected": B},
    "orca": {"question": QUESTION, "system": SYSTEM, "history": [{"user": FIRST, "assistant": REPLY}], "chosen": A, "rejected": B},
    "rated": {"prompt": ASKED, "answers": [A, B], "scores": [2, 1]},
    "labelled": {"prompt": ASKED, "completion": [GOOD], "label": True},
    "examples": {"messages": [*ASKED, GOOD]},
    "examples with columns": {"instruction": QUESTION, "system": SYSTEM, "history": [[FIRST, REPLY]], "output": A},
    "prompts": {"prompt": ASKED},
}


@pytest.mark.parametrize("form", list(ONE_CONVERSATION))
def test_one_conversation_has_the_same_prompt_in_every_command(form: str, tmp_path: Path) -> None:
    from prefine.evaluation.questions import read_questions
    from prefine.training.retention import Retention

    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(ONE_CONVERSATION[form]) + "\n")
    encoder = Encoder(family("qwen25"))
    expected = encoder.prompt_ids(tuple(ASKED)).tolist()
    (question,) = read_questions(str(path))  # generate, pairs, eval, ppo, online-dpo
    assert encoder.prompt_ids(question.prompt, question.tools, question.template_kwargs).tolist() == expected
    (example,) = ExampleSource(str(path)).examples()  # sft
    for group in encoder.encode_example(example):
        assert group.prompt_ids.tolist() == expected
        assert decoded(encoder, group.completion_ids[0]) == f"{A}<|im_end|>\n"
    (kept,) = Retention.load(str(path), encoder, 0).groups
    whole = [*kept.prompt_ids.tolist(), *kept.completion_ids[0].tolist()]
    assert whole[: len(expected)] == expected
    if form not in ("labelled", "examples", "examples with columns", "prompts"):
        (group,) = encoder.encode_pairs(PairSource(str(path)))  # dpo, reward
        assert group.prompt_ids.tolist() == expected
        assert [decoded(encoder, ids) for ids in group.completion_ids] == [f"{A}<|im_end|>\n", f"{B}<|im_end|>\n"]
        (pair,) = PairSource(str(path))
        path.write_text(json.dumps(canonical(pair)) + "\n")  # what data convert writes reads back as the same
        (again,) = PairSource(str(path))
        assert (again.prompt, again.chosen, again.rejected) == (pair.prompt, pair.chosen, pair.rejected)
