"""Packs are exact: log-probs and gradients equal plain forwards, over many architectures; so are prompts read in pieces."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import prefine.generation.rows as rows_module
from prefine.generation.engine import Answer, Sampling
from prefine.generation.generate import generate
from prefine.packing.group import PromptGroup, as_ids
from prefine.scoring import token_logps
from prefine.scoring.proof import _unseen_window, prove_layout
from prefine.scoring.scorer import Scorer, plain_token_logps
from prefine.scoring.token_logps import HeadScaling, head_token_logps

TINY: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SHARING: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "mixtral": {"sliding_window": None, "num_local_experts": 2},
    "qwen2": {},
    "qwen3": {},
    "qwen2_moe": {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
    "gemma": {},
    "gemma2": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "phi": {},
    "phi3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_neox": {},
    "cohere": {},
    "cohere2": {"sliding_window": 6},
    "granite": {"logits_scaling": 4.0},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 6},
    "starcoder2": {"sliding_window": None},
    "stablelm": {},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 6},
    "smollm3": {},
    "glm": {},
    "glm4": {},
    "ernie4_5": {},
    "helium": {},
}
NOT_SHARING: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 4},
    "qwen3_next": {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "qwen3_5_text": {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
}

RECURRENT = ("mamba", "qwen3_next", "qwen3_5_text")


def build(name: str, extra: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    known = AutoConfig.for_model(name)
    wanted = {**TINY, **extra}
    usable = {k: v for k, v in wanted.items() if k in extra or hasattr(known, k)}
    config = AutoConfig.for_model(name, **usable)
    # Older versions' SDPA leaves Gemma 2's soft-cap out; eager computes what the architecture says.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    for parameter in model.parameters():  # far from uniform, so that wrong attention shows
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def groups() -> list[PromptGroup]:
    rng = np.random.default_rng(1)

    def draw(n: int) -> Any:
        return as_ids(rng.integers(3, 96, n, dtype=np.int32))

    return [PromptGroup(draw(9), (draw(6), draw(11))), PromptGroup(draw(1), (draw(1), draw(4), draw(2))), PromptGroup(draw(14), (draw(5),))]


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("name", list(SHARING))
def test_pack_equals_plain_forwards(name: str) -> None:
    model = build(name, SHARING[name])
    proof = prove_layout(model, 64)
    assert proof.layout == "shared", proof
    batch = groups()
    scorer = Scorer(model)
    pack = scorer.pack(batch)
    weights = torch.linspace(-1, 2, len(pack.target_N))
    with scorer.attending(pack):
        packed = scorer.token_logps(pack)
        packed_gradients = gradients(model, (packed * weights).sum())
    plain = torch.cat([plain_token_logps(model, g) for g in batch])
    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-5)
    plain_gradients = gradients(model, (_plain_with_grad(model, batch) * weights).sum())
    scale = max(float(g.abs().max()) for g in plain_gradients)
    for ours, theirs in zip(packed_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=1e-4, atol=1e-5)


def _plain_with_grad(model: torch.nn.Module, batch: list[PromptGroup]) -> torch.Tensor:
    out = []
    for group in batch:
        for completion in group.completion_ids:
            ids = torch.tensor([*group.prompt_ids.tolist(), *completion.tolist()])
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            out.append(logits[:-1].log_softmax(-1).gather(1, ids[1:, None]).squeeze(1)[-len(completion) :])
    return torch.cat(out)


@pytest.mark.parametrize("name", list(NOT_SHARING))
def test_proof_catches_what_does_not_go_through_the_hook(name: str) -> None:
    model = build(name, NOT_SHARING[name])
    proof = prove_layout(model, 64)
    assert proof.layout == "padded"
    assert "not exact" in proof.sentence()
    batch = groups()
    scorer = Scorer(model, proof.layout)
    pack = scorer.pack(batch)
    with torch.no_grad(), scorer.attending(pack):
        padded = scorer.token_logps(pack)
    torch.testing.assert_close(padded, torch.cat([plain_token_logps(model, g) for g in batch]), rtol=1e-4, atol=1e-4)


def test_sharing_is_refused_when_a_window_would_be_ignored() -> None:
    config = SimpleNamespace(layer_types=["sliding_attention"], sliding_window=6)
    assert "window of 6" in _unseen_window(config, {None}, 2, 64)
    assert "window of 6" in _unseen_window(config, {None}, 2, None)
    assert not _unseen_window(config, {6}, 2, 64)
    assert not _unseen_window(config, {None}, 2, 6)  # no sequence can outgrow it
    assert "AttentionInterface" in _unseen_window(config, set(), 0, 64)


@pytest.mark.parametrize("name", [*SHARING, *NOT_SHARING])
def test_a_prompt_read_in_pieces_is_answered_as_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of very different lengths, so that a row's first pieces are padding alone."""
    model = build(name, {**SHARING, **NOT_SHARING}[name])
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=2, decode=lambda ids, **_: " ".join(map(str, ids)))
    rng = np.random.default_rng(0)
    prompts = [as_ids(rng.integers(3, 96, n, dtype=np.int32)) for n in (23, 5, 17)]
    widths: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda module, ids, out: widths.append(out.shape[1]))

    def answers() -> dict[int, Answer]:
        widths.clear()
        return dict(generate(model, tokenizer, prompts, Sampling(8, 1.0), range(3)))

    whole = answers()
    assert widths[0] == 23 - (name not in RECURRENT)  # the last token comes with the first step
    monkeypatch.setitem(rows_module.PREFILL_TOKENS, "cpu", 3 * 6)
    pieces = answers()
    assert widths[:4] == ([23, 1, 1, 1] if name in RECURRENT else [6, 6, 6, 4])
    for i, answer in whole.items():
        assert pieces[i].ids == answer.ids
        assert pieces[i].logps == pytest.approx(answer.logps, abs=1e-4)


WIDE: dict[str, dict[str, Any]] = {
    f"{name} within its window": {**SHARING[name], "sliding_window": 64}
    for name in ("mistral", "gemma2", "gemma3_text", "cohere2", "olmo3", "gpt_oss")
}


@pytest.mark.parametrize("name", [*SHARING, *NOT_SHARING, *WIDE])
def test_samples_share_their_prompts_pass_leave_when_they_end_and_others_come(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same responses as one by one, with fewer tokens through the model; keys and values outgrow their place, prompts go in pieces."""
    monkeypatch.setattr(rows_module, "ROOM", 4)
    model = build(name.split()[0], {**SHARING, **NOT_SHARING, **WIDE}[name])
    model.generation_config.eos_token_id = list(range(2, 9))
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=2, decode=lambda ids, **_: " ".join(map(str, ids)))
    rng = np.random.default_rng(0)
    prompts = [as_ids(rng.integers(14, 96, n, dtype=np.int32)) for n in (23, 1, 17)] * 8
    passed: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda module, ids, out: passed.append(out.shape[0] * out.shape[1]))

    def answers(batch: int) -> tuple[dict[int, Answer], int]:
        passed.clear()
        return dict(generate(model, tokenizer, prompts, Sampling(16, 1.0), range(24), batch)), sum(passed)

    alone, by_one = answers(1)
    monkeypatch.setitem(rows_module.PREFILL_TOKENS, "cpu", 3 * 9)
    together, shared = answers(24)
    joined, _ = answers(7)
    assert by_one == 8 * (23 + 1 + 17) + sum(a.num_tokens - 1 for a in alone.values())
    assert {a.ended for a in alone.values()} == {True, False}
    for i, answer in alone.items():
        for found in (together, joined):
            assert (found[i].ids, found[i].ended) == (answer.ids, answer.ended)
            assert found[i].logps == pytest.approx(answer.logps, abs=1e-4)
    assert "right-padding" not in caplog.text
    # A prompt's pass once, padded to the longest, and a step more; of rows that have ended at most a quarter, or three, are left in.
    if name not in RECURRENT:
        assert shared <= 3 * 22 + 24 + (sum(a.num_tokens for a in alone.values())) * 4 / 3 + 3 * 24


@pytest.mark.parametrize("name", [*SHARING, *NOT_SHARING, *WIDE])
def test_what_prompts_begin_with_alike_passes_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system prompt of 30 tokens before prompts of 2 to 20: the same responses as one by one, in pieces and as others come."""
    model = build(name.split()[0], {**SHARING, **NOT_SHARING, **WIDE}[name])
    model.generation_config.eos_token_id = list(range(2, 9))
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=2, decode=lambda ids, **_: " ".join(map(str, ids)))
    rng = np.random.default_rng(0)
    system = rng.integers(14, 96, 30, dtype=np.int32)
    prompts = [as_ids(np.concatenate([system, rng.integers(14, 96, n, dtype=np.int32)])) for n in (20, 2, 11, 2, 5, 20)] * 2
    passed: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda module, ids, out: passed.append(out.shape[0] * out.shape[1]))

    def answers(batch: int) -> tuple[dict[int, Answer], int]:
        passed.clear()
        return dict(generate(model, tokenizer, prompts, Sampling(12, 1.0), range(12), batch)), sum(passed)

    alone = {i: dict(generate(model, tokenizer, [prompt], Sampling(12, 1.0), [i]))[0] for i, prompt in enumerate(prompts)}
    together, shared = answers(12)
    joined, _ = answers(5)
    monkeypatch.setitem(rows_module.PREFILL_TOKENS, "cpu", 6 * 7)
    pieces, _ = answers(12)
    for i, answer in alone.items():
        for found in (together, joined, pieces):
            assert found[i].ids == answer.ids
            assert found[i].logps == pytest.approx(answer.logps, abs=1e-4)
    windowed = getattr(model.config, "sliding_window", None) == 6
    if name not in RECURRENT and not windowed:
        # the start once, six ends padded to the longest, and a step more for each row than it has tokens at most
        assert shared <= 30 + 6 * 20 + 12 * 13


def test_the_heads_gradient_is_the_same_when_backward_runs_twice() -> None:
    """What the head keeps for backward goes with the first one; a second computes it again."""
    torch.manual_seed(0)
    head, hidden, target = torch.nn.Linear(8, 50), torch.randn(6, 8, requires_grad=True), torch.arange(6)
    logps, _ = head_token_logps(hidden, head, target, HeadScaling())
    plain = head(hidden).log_softmax(-1).gather(1, target[:, None]).squeeze(1)
    wanted = torch.autograd.grad((plain * torch.arange(6)).sum(), [hidden, head.weight, head.bias])
    for _ in range(2):
        found = torch.autograd.grad((logps * torch.arange(6)).sum(), [hidden, head.weight, head.bias], retain_graph=True)
        for a, b in zip(found, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("plain", [True, False], ids=["linear", "other"])
@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("chunk", [3, 16])
@pytest.mark.parametrize("grad", [True, False])
def test_what_is_logged_of_tokens_is_what_the_logits_say(
    plain: bool, cap: float | None, chunk: int, grad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entropy, mean logit and top place come with the log-probs, and change neither them nor the gradients."""

    class Other(torch.nn.Linear):
        pass

    torch.manual_seed(0)
    monkeypatch.setattr(token_logps, "chunk_tokens", lambda vocabulary, device: chunk)
    head = (torch.nn.Linear if plain else Other)(8, 50)
    hidden, target = torch.randn(7, 8, requires_grad=True), torch.arange(7)
    scaling = HeadScaling(3.0, cap)
    with torch.set_grad_enabled(grad):
        logps, stats = head_token_logps(hidden, head, target, scaling, with_stats=True)
        alone, none = head_token_logps(hidden, head, target, scaling)
    logits = head(hidden).double() * 3
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    p = logits.softmax(-1)
    assert none is None
    assert torch.allclose(logps.double(), p.log().gather(1, target[:, None]).squeeze(1), atol=1e-5)
    assert torch.equal(logps, alone)
    assert torch.allclose(stats.entropy.double(), -(p * p.log()).sum(-1), atol=1e-5)
    assert torch.allclose(stats.mean_logit.double(), logits.mean(-1), atol=1e-5)
    assert torch.equal(stats.is_top1, logits.argmax(-1) == target)
    assert not stats.entropy.requires_grad
    if grad:
        found = [torch.autograd.grad(x.sum(), [hidden, head.weight, head.bias]) for x in (logps, alone)]
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
