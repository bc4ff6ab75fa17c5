"""What a response thinks and what it says: every way in which models mark it, and judges that see the final response alone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from prefine.errors import DataError
from prefine.evaluation.answers import Answered, AnswerFile, without_reasoning
from prefine.evaluation.contest import findings_of, judge_comparisons
from prefine.evaluation.judge import ByScore, Score, TextFunctionScorer, compare
from prefine.evaluation.questions import Question, user_turn
from prefine.packing.encoding import Encoder
from prefine.packing.group import weights_of
from prefine.preferences.reasoning import said, split_reasoning
from template_matrix import family
from tiny_chat import build_tiny_chat

ASKED = ({"role": "user", "content": "How many?"},)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", (None, "Yes.")),
        ("<think>\nHm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
        ("<think></think>Yes.", ("", "Yes.")),
        ("\n<think>Hm", ("Hm", "")),
        ("Hm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
        ("</think>\n\nYes.", ("", "Yes.")),
        ("[THINK]Hm.[/THINK]Yes.", ("Hm.", "Yes.")),
        ("<thinking>Hm.</thinking> Yes.", ("Hm.", "Yes.")),
        ("Close it with </think>, like so.", (None, "Close it with </think>, like so.")),
        ("Write\n<think>\nHm\n</think>\nand so on.", (None, "Write\n<think>\nHm\n</think>\nand so on.")),
        ("<think>Hm.</think>Say </think> to close it.", ("Hm.", "Say </think> to close it.")),
        ("I <think> so.", (None, "I <think> so.")),
        ("", (None, "")),
    ],
)
def test_split(text: str, expected: tuple[str | None, str]) -> None:
    assert split_reasoning(text) == expected


@pytest.mark.parametrize("name", ["deepseek_r1", "qwen35"])
def test_a_response_tells_of_reasoning_that_its_prompt_opened(name: str) -> None:
    tokenizer = family(name)
    prompt = Encoder(tokenizer).prompt_ids(ASKED).tolist()
    assert tokenizer.decode(prompt).rstrip().endswith("<think>")
    cut = tokenizer("Hm, let me", add_special_tokens=False)["input_ids"]
    assert split_reasoning(said(tokenizer, cut, prompt)) == ("Hm, let me", "")
    assert said(tokenizer, cut) == "Hm, let me"


@pytest.mark.parametrize("name", ["qwen3", "deepseek_r1", "smollm3"])
def test_special_tokens_that_mark_reasoning_stay_in_a_response(name: str) -> None:
    tokenizer = family(name)
    ids = tokenizer("<think>\nHm.\n</think>\n\nYes." + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    assert said(tokenizer, ids) == "<think>\nHm.\n</think>\n\nYes."


THOUGHT = "<|channel|>analysis<|message|>Hm."
CALLED = "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>", "<think>\nHm.\n</think>\n\nYes."),
        ("<|channel|>final<|message|>Yes.<|return|>", "Yes."),
        (THOUGHT, "<think>\nHm."),
        (f"{THOUGHT}<|end|>{CALLED}", "<think>\nHm.\n{}"),
    ],
)
def test_channels_are_written_as_reasoning(text: str, expected: str) -> None:
    tokenizer = family("gptoss")
    assert said(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]) == expected


def answers(texts: list[str]) -> AnswerFile:
    asked = [Question(str(i), user_turn(f"Question {i}?"), cluster=str(i)) for i in range(len(texts))]
    return AnswerFile("memory", "m", [Answered(q, (t,), (True,)) for q, t in zip(asked, texts, strict=True)])


def test_judges_see_the_final_response_alone() -> None:
    base = answers(["<think>long thoughts, many words</think>a", "b"])
    tuned = answers(["thoughts\n</think>\n\naa", "<think>thoughts</think>bb"])
    comparisons, _ = compare(base, tuned)
    assert [(c.base, c.tuned) for c in comparisons] == [(("a",), ("aa",)), (("b",), ("bb",))]
    assert [c.reasoning for c in comparisons] == [("long thoughts, many words", "thoughts"), (None, "thoughts")]
    seen: list[Any] = []

    def score(prompt: str, response: str) -> float:
        seen.append(response)
        return len(response)

    votes = dict(ByScore(TextFunctionScorer("length", score)).judge(comparisons))
    assert [votes[i].win for i in (0, 1)] == [1.0, 1.0]
    assert sorted(seen) == ["a", "aa", "b", "bb"]
    assert ByScore(TextFunctionScorer("length", score)).message_rewards([user_turn("Q?")], ["<think>Hm.</think>abc"]) == [3.0]
    assert [a.answers for a in without_reasoning(base.answered)] == [("a",), ("b",)]


def test_where_neither_came_to_answer_nobody_wins() -> None:
    cut = [f"<think>thought {i}" for i in range(8)]
    comparisons, _ = compare(answers(cut), answers([c + " more" for c in cut]))
    with pytest.raises(DataError, match="allow more tokens"), tempfile.TemporaryDirectory() as folder:
        judge_comparisons(comparisons, ByScore(TextFunctionScorer("length", lambda prompt, response: 1.0)), ("m", "n"), Path(folder))
    mixed, _ = compare(answers(cut), answers(["<think>a</think>Yes."] * 4 + cut[4:]))
    with tempfile.TemporaryDirectory() as folder:
        judged = judge_comparisons(mixed, ByScore(TextFunctionScorer("n", lambda p, r: len(r))), ("m", "n"), Path(folder))
    assert [j.win for j in judged.file.counted] == [1.0] * 4


def test_what_was_trained_on_reads_all_of_a_response() -> None:
    seen: list[str] = []

    class Whole:
        name, reads_reasoning = "whole", True

        def score(self, answered: Any) -> Any:
            seen.extend(a.answers[-1] for a in answered)
            return ((i, Score(0.0)) for i in range(len(answered)))

    comparisons, _ = compare(answers(["<think>a</think>b"]), answers(["<think>c"]))
    assert len(dict(ByScore(Whole()).judge(comparisons))) == 1
    assert seen == ["<think>a</think>b", "<think>c"]


@pytest.mark.parametrize("content", ["<think>\nHm.\n</think>\n\nYes.", "<think>Hm.</think>Yes."])
def test_channels_take_reasoning_out_of_content(content: str) -> None:
    """In what is trained on and in later turns: never a mark within the final channel."""
    tokenizer = family("gptoss")
    group = Encoder(tokenizer).encode(ASKED, [content])
    assert group is not None
    text = tokenizer.decode(group.completion_ids[0])
    assert text.endswith("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>")
    later = (*ASKED, {"role": "assistant", "content": content}, {"role": "user", "content": "Sure?"})
    assert "<think>" not in tokenizer.decode(Encoder(tokenizer).prompt_ids(later))


def test_lengths_are_told_of_both_parts() -> None:
    base = answers([f"<think>{'so ' * 10}</think>yes {i}" for i in range(12)])
    tuned = answers([f"<think>{'so ' * 4}</think>yes yes {i}" for i in range(12)])
    found = {f.name: (f.base, f.tuned) for f in findings_of(compare(base, tuned)[0])}
    assert found["words"] == (2.0, 3.0)
    assert found["words of reasoning"] == (10.0, 4.0)
    plain = answers([f"yes {i}" for i in range(12)])
    assert "words of reasoning" not in {f.name for f in findings_of(compare(plain, plain)[0])}
    silent = {f.name: (f.base, f.tuned) for f in findings_of(compare(base, plain)[0])}
    assert silent["words of reasoning"] == (10.0, 0.0)


def test_responses_on_disk_keep_reasoning_apart(tmp_path: Path) -> None:
    comparisons, _ = compare(answers(["<think>secret plan</think>a"] * 8), answers(["<think>other plan</think>bb"] * 8))
    judge_comparisons(comparisons, ByScore(TextFunctionScorer("length", lambda prompt, response: len(response))), ("m", "n"), tmp_path)
    row = json.loads((tmp_path / "generations.jsonl").read_text().splitlines()[0])
    assert (row["base"], row["tuned"], row["reasoning"]) == ("a", "bb", ["secret plan", "other plan"])


THINKING = ["qwen3", "deepseek_r1", "smollm3", "gptoss", "qwen35"]


@pytest.mark.parametrize("name", THINKING)
def test_masked_reasoning_is_given_and_not_trained_on(name: str) -> None:
    """The ids are those of an encoder that masks nothing; what counts decodes to the final response and its end."""
    tokenizer = family(name)
    answer = ({"role": "assistant", "content": "Seven of them.", "reasoning_content": "Count them twice."},)
    plain, masked = Encoder(tokenizer).encode(ASKED, [answer]), Encoder(tokenizer, mask_reasoning=True).encode(ASKED, [answer])
    assert plain is not None
    assert masked is not None
    ids = masked.completion_ids[0]
    assert plain.completion_ids[0].tolist() == ids.tolist()
    assert weights_of(plain).all()
    counted = tokenizer.decode(ids[weights_of(masked) == 1], skip_special_tokens=True).removeprefix("assistantfinal")
    hidden = tokenizer.decode(ids[weights_of(masked) == 0], skip_special_tokens=True)
    assert counted.strip() == "Seven of them."
    assert "Count them twice." in hidden
    assert weights_of(masked)[-1] == 1


@pytest.mark.parametrize("name", [*THINKING, "llama3"])
def test_without_reasoning_all_of_a_response_counts(name: str) -> None:
    tokenizer = family(name)
    masked = Encoder(tokenizer, mask_reasoning=True).encode(ASKED, [({"role": "assistant", "content": "Seven of them."},)])
    assert masked is not None
    ids, counts = masked.completion_ids[0], weights_of(masked) == 1
    counted = tokenizer.decode(ids[counts], skip_special_tokens=True)
    assert counted.removeprefix("final").strip() == "Seven of them."  # GPT-OSS's channel
    left = tokenizer.decode(ids[~counts], skip_special_tokens=True)  # the thoughts that the template writes though there are none
    assert not left.replace("<think>", "").replace("</think>", "").strip()


@pytest.mark.filterwarnings("ignore")
def test_losses_of_masked_reasoning_are_those_of_the_final_response(tmp_path: Path) -> None:
    """The log-prob that DPO logs is that of the final response after its reasoning, by a plain forward."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import prefine as pf

    folder = build_tiny_chat(tmp_path / "model")
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"<think>yes {i}</think>Seven.", "rejected": f"<think>no {i} no</think>Eight."}
        for i in range(4)
    ]
    args = pf.DPOConfig(str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=4, mask_reasoning=True, disable_tqdm=True)
    trainer = pf.DPOTrainer(str(folder), args=args, train_dataset=rows)
    trainer.train()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    wanted = 0.0
    for row in rows:
        before, end = tokenizer(row["prompt"] + row["chosen"].removesuffix("Seven."))["input_ids"], tokenizer.eos_token_id
        ids = torch.tensor([[*before, *tokenizer("Seven.")["input_ids"], end]])
        with torch.no_grad():
            logps = model(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
        wanted += float(logps[len(before) - 1 :].sum()) / len(rows)
    assert trainer.state.log_history[0]["logps/chosen"] == pytest.approx(wanted, rel=1e-4)
    assert trainer.encoder.report.notes["reasoning is left out of the loss"] == 8


@pytest.mark.filterwarnings("ignore")
def test_where_every_token_is_trained_on_masking_is_refused(chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prefine.cli import main

    data = tmp_path / "chats.jsonl"
    said = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "<think>a</think>b"}]
    data.write_text("".join(json.dumps({"messages": said}) + "\n" for _ in range(8)))
    words = ["sft", "--model", str(chat_model), "--data", str(data), "--output-dir", str(tmp_path / "run"), "--max-steps", "1"]
    assert main([*words, "--mask-reasoning", "--no-assistant-only-loss"]) == 2
    assert "give assistant_only_loss" in capsys.readouterr().err
    assert main([*words, "--mask-reasoning"]) == 0
