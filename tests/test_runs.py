"""What is done with a finished run: eval, report, compare, chat, merge."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from judge_server import serving
from prefine.cli import main
from prefine.evaluation.answers import Answered
from prefine.evaluation.model_pair import ModelPair
from prefine.evaluation.questions import Question, user_turn
from prefine.evaluation.reward_scorer import Ensemble, RewardModel
from prefine.runs import RunDirectory


@pytest.fixture(scope="module")
def adapter_run(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "adapter"
    words = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(run), "--eval-fraction", "0.3"]
    assert main([*words, "--lora-r", "4", "--max-steps", "6", "--learning-rate", "5e-3", "--logging-steps", "1"]) == 0
    return run


@pytest.fixture(scope="module")
def whole_run(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    words = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(run), "--eval-fraction", "0.3"]
    assert main([*words, "--max-steps", "2", "--logging-steps", "1"]) == 0
    return run


@pytest.mark.filterwarnings("ignore")
def test_a_run_is_judged_from_every_side(adapter_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("sorry about that . restart it on the mouse . " * 200)
    words = ["eval", str(adapter_run), "--max-new-tokens", "6", "--perplexity", str(text), "--samples", "1", "--verbose"]
    assert main(words) == 0
    unjudged = json.loads((adapter_run / "eval/held-out/summary.json").read_text())
    assert unjudged["judge"] is None
    assert "win_rate" not in unjudged
    assert unjudged["held_out_pairs"]["pairs"] == unjudged["learning"]["accuracy"]["count"]
    assert unjudged["drift"]["per_token"]["count"] > 0
    assert unjudged["perplexity"][0]["before"] > 1
    told = capsys.readouterr().out
    for part in ("nats/token", "log-probs of held-out responses", "perplexity of", "prompt:", "report.html"):
        assert part in told
    with serving(lambda body: "[[A]]") as server:  # always the first: no difference in the end, every verdict flips
        more = ["--judge", "openai", "--judge-model", "j", "--server", server.url]
        assert main([*words, *more]) == 0
        assert main([*words, *more, "--require", "better"]) == 1
    judged = json.loads((adapter_run / "eval/j/summary.json").read_text())
    assert judged["win_rate"]["estimate"] == 0.5
    assert judged["outcome"] == "inconclusive"
    page = (adapter_run / "report.html").read_text()
    sections = [
        'class="verdict',
        "INCONCLUSIVE",
        "Evaluation judge j",
        'id="responses"',
        "held-out, no judge",
        'id="numbers"',
        'id="training"',
    ]
    places = [page.index(section) for section in sections]
    assert places == sorted(places)
    kept = [json.loads(line) for line in (adapter_run / "eval/j/held_out_pairs.jsonl").read_text().splitlines()]
    assert len(kept) == unjudged["held_out_pairs"]["pairs"]
    for name in ("chosen", "rejected"):
        for side, when in enumerate(("before", "after")):
            assert sum(p[name][side] for p in kept) / len(kept) == pytest.approx(unjudged["held_out_pairs"][name][when])
    card = (adapter_run / "model" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "peft"
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == 50.0
    assert "INCONCLUSIVE" in card
    assert json.loads((adapter_run / "summary.json").read_text())["judge"] == "j"


def test_base_and_tuned_share_one_set_of_weights(adapter_run: Path, whole_run: Path, lab_model: Path) -> None:
    sides = ModelPair.load(RunDirectory.open(adapter_run))
    assert sides.reference.scorer is sides.policy
    ids = torch.tensor([[2, 10, 11, 3, 20]])
    plain = AutoModelForCausalLM.from_pretrained(lab_model)
    with torch.no_grad():
        with sides.model(False) as model:
            assert torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-6)
        with sides.model(True) as model:
            assert not torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-3)
    other = ModelPair.load(RunDirectory.open(whole_run))
    assert other.reference.scorer is not other.policy


@pytest.mark.filterwarnings("ignore")
def test_merged_equals_base_and_adapter(adapter_run: Path, whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "merged")]) == 0
    sides = ModelPair.load(RunDirectory.open(adapter_run))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.randint(0, merged.config.vocab_size, (4, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), sides.model(True) as tuned:
        assert float((merged(ids).logits - tuned(ids).logits).abs().max()) < 1e-4
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert (tmp_path / "merged" / "tokenizer.json").exists()
    assert "library_name: transformers" in (tmp_path / "merged" / "README.md").read_text()
    assert (
        main(["generate", "--model", str(tmp_path / "merged"), "--prompts", _prompt(tmp_path), "--output", str(tmp_path / "a.jsonl")]) == 0
    )
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "merged")]) == 2
    assert "already there" in capsys.readouterr().err
    assert main(["merge", str(whole_run)]) == 0
    assert "no adapter" in capsys.readouterr().out
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "x"), "--push-to-hub", "name"]) == 2
    assert "owner/name" in capsys.readouterr().err
    # what a 4-bit run says: its base here is loaded in full precision
    copied = tmp_path / "four-bit"
    shutil.copytree(adapter_run, copied)
    config = yaml.safe_load((copied / "config.yaml").read_text()) | {"load_in_4bit": True}
    (copied / "config.yaml").write_text("# repeat\n" + yaml.safe_dump(config))
    assert main(["merge", str(copied)]) == 0
    assert "full precision" in capsys.readouterr().out


def test_a_merged_model_is_uploaded_with_its_card(adapter_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from huggingface_hub import HfApi

    calls: list[Any] = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **k: calls.append((name, k)))
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **k: calls.append(k) or "the address")
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "m"), "--push-to-hub", "owner/name"]) == 0
    assert calls == [("owner/name", {"private": True, "exist_ok": True}), {"repo_id": "owner/name", "folder_path": str(tmp_path / "m")}]
    assert "uploaded: the address" in capsys.readouterr().out

    def offline(self: Any, name: str, **k: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(HfApi, "create_repo", offline)
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "n"), "--push-to-hub", "owner/name"]) == 2
    assert "The model is kept in" in capsys.readouterr().err


def _prompt(folder: Path) -> str:
    (folder / "p.txt").write_text("my mouse drops calls\n")
    return str(folder / "p.txt")


@pytest.mark.filterwarnings("ignore")
def test_chat_keeps_two_conversations(adapter_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from prefine.generation.generate import TransformersEngine

    seen: list[Any] = []
    plain = TransformersEngine.answers

    def spy(self: Any, requests: Any, sampling: Any) -> Iterator[Any]:
        seen.append(requests[0])
        return plain(self, requests, sampling)

    monkeypatch.setattr(TransformersEngine, "answers", spy)
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("my mouse drops calls\nand my vacuum\n/seed 3\n/nonsense\n/reset\nhelp the mouse\n/quit\n")
    )
    assert main(["chat", str(adapter_run), "--max-new-tokens", "4", "--system", "be kind"]) == 0
    assert [len(r.prompt) for r in seen] == [2, 2, 4, 4, 2, 2]
    assert all(a.seed == b.seed for a, b in zip(seen[::2], seen[1::2], strict=True))
    assert len({r.seed for r in seen}) == 3
    assert seen[0].prompt[0] == {"role": "system", "content": "be kind"}
    told = capsys.readouterr().out
    assert "(a new conversation)" in told
    assert "commands:" in told


@pytest.mark.filterwarnings("ignore")
def test_compare_tells_what_differs(adapter_run: Path, whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.json"
    assert main(["compare", str(adapter_run), str(whole_run), "--output", str(out)]) == 0
    told = capsys.readouterr().out
    assert "settings that differ" in told
    assert "lora_r" in told
    numbers = json.loads(out.read_text())
    rates = [s["learning"]["accuracy"]["estimate"] for s in numbers["runs"].values()]
    assert numbers["differences"][0]["estimate"] == pytest.approx(rates[1] - rates[0])
    assert main(["compare", str(adapter_run)]) == 2
    assert main(["compare", str(adapter_run), str(whole_run), "--evaluation", "x"]) == 2
    assert "all have: final" in capsys.readouterr().err


def reward_model(folder: Path, seed: int, labels: int = 1) -> str:
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    from prefine.lab.model import build_tokenizer

    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = Qwen2Config(vocab_size=len(tokenizer), num_labels=labels, pad_token_id=tokenizer.eos_token_id, **sizes)
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_reward_model_scores_as_one_by_one(tmp_path: Path) -> None:
    """The pad token is the end token here, which every answer ends in: batches must not move what is read."""
    model = RewardModel(reward_model(tmp_path / "r", 0), batch_size=3)
    asked = [
        Answered(Question(str(i), user_turn("my mouse drops calls")), (t,))
        for i, t in enumerate(("sorry about that .", "restart it on the mouse . have a great day .", "swap the card ."))
    ]
    together = {i: s.value for i, s in model.score(asked)}
    for i, one in enumerate(asked):
        group = model.encoder.encode(one.question.prompt, [one.answers[0]])
        assert group is not None
        ids = torch.tensor([[*group.prompt_ids.tolist(), *group.completion_ids[0].tolist()]])
        with torch.no_grad():
            hidden = model.model.model(input_ids=ids).last_hidden_state[0, -1]
            assert together[i] == pytest.approx(float(model.model.score(hidden)[0]), abs=1e-5)


def test_an_ensemble_standardises_its_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prefine.evaluation.judge import FunctionScorer

    asked = [Answered(Question(str(i), user_turn("q")), (t,)) for i, t in enumerate(("a", "bb", "cccc", "!"))]
    length = FunctionScorer("length", lambda a: float(len(a.answers[0])))
    fails = FunctionScorer("fails", lambda a: 1 / 0 if a.answers[0] == "!" else -10.0 * len(a.answers[0]))
    found = dict(Ensemble([length, fails], "mean").score(asked))
    assert [found[i].value for i in range(3)] == pytest.approx([0.0, 0.0, 0.0])  # one is the other turned round
    assert found[3].value is None
    worst = dict(Ensemble([length, fails], "min").score(asked))
    z = (1 - 7 / 3) / (14 / 9) ** 0.5  # lengths 1, 2, 4: mean 7/3, variance 14/9
    assert worst[0].value == pytest.approx(z)
    two = reward_model(tmp_path / "two", 1, labels=2)
    files = []
    for name, text in (("base", "a"), ("tuned", "b")):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": "q", "output": text, "generator": name}]))
        files.append(str(tmp_path / f"{name}.json"))
    assert main(["judge", *files, "--judge", "reward-model", "--reward-model", two, "--output-dir", str(tmp_path / "o")]) == 2
    assert "2 labels" in capsys.readouterr().err
    one = [reward_model(tmp_path / str(i), i) for i in range(2)]
    words = [
        "judge",
        *files,
        "--judge",
        "reward-model",
        "--reward-model",
        *one,
        "--aggregate",
        "mean-std",
        "--output-dir",
        str(tmp_path / "o"),
    ]
    assert main(words) == 0


@pytest.mark.filterwarnings("ignore")
def test_dpos_own_reward_as_a_judge_of_any_answers(adapter_run: Path, tmp_path: Path) -> None:
    files = []
    for name, text in (("base", "sorry about that ."), ("tuned", "swap the card on the mouse .")):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": "my mouse drops calls", "output": text, "generator": name}]))
        files.append(str(tmp_path / f"{name}.json"))
    assert main(["judge", *files, "--judge", "implicit", "--reward-run", str(adapter_run), "--output-dir", str(tmp_path / "o")]) == 0
    [row] = [json.loads(line) for line in (tmp_path / "o" / "verdicts.jsonl").read_text().splitlines()]
    assert row["tuned_wins"] == float(row["scores"][1] > row["scores"][0])
