"""FlexAttention's masks and scores: forward as torch computes them without a compiler, gradients with what its documentation says as
dense scores in its place, since it has none on a CPU; and on a GPU compiled."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prefine.packing import agreement, flex, varlen
from prefine.packing.pack import Span
from prefine.packing.plain_attention import plain_attention
from prefine.planning.live_bytes import AsDevice, LiveBytes, varlen_kernel
from prefine.scoring.scorer import Scorer
from scoring.test_exactness import SHARING, build, groups

SPANS = (Span(7, (5, 9)), Span(3, (2, 0, 4)), Span(1, (0, 0)), Span(200, (3, 150)))
TOTAL = sum(s.prompt + sum(s.completions) for s in SPANS)
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def tensors(dtype: torch.dtype, device: str = "cpu", sizes: tuple[int, int] = (16, 16)) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    shapes = [(1, 4, TOTAL, sizes[0]), (1, 2, TOTAL, sizes[0]), (1, 2, TOTAL, sizes[1]), (4,)]
    return [torch.randn(shape, generator=g, dtype=torch.float64).to(device, dtype).requires_grad_() for shape in shapes]


def dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, score_mod: Any, block_mask: Any, scale: float | None, enable_gqa: bool,
    return_aux: Any,
) -> tuple[torch.Tensor, Any]:  # fmt: skip
    """What torch's documentation says of ``flex_attention``: softmax(score_mod(QK^T * scale)) V over what the mask lets through."""
    assert enable_gqa == (query.shape[1] != key.shape[1])
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores if score_mod is None else score_mod(scores, 0, 0, 0, 0)
    place = torch.arange(scores.shape[-1])
    scores = scores.masked_fill(~block_mask.mask_mod(0, 0, place[:, None], place[None]), -torch.inf)
    return scores.softmax(-1).to(value.dtype) @ value, SimpleNamespace(lse=scores.logsumexp(-1).float() if return_aux.lse else None)


@pytest.fixture
def with_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_flex", lambda compiled: dense)


OPTIONS = [
    {"scaling": scaling, "sliding_window": window, "softcap": softcap}
    for scaling, window, softcap in product([None, 0.5], [None, 4, 170], [None, 2.0])
]


@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_masks_scores_and_sinks(options: dict[str, Any], with_sinks: bool, request: pytest.FixtureRequest) -> None:
    query, key, value, sinks = inputs = tensors(torch.float32, sizes=(16, 8))
    more = options | ({"s_aux": sinks} if with_sinks else {})
    wanted = inputs if with_sinks else inputs[:3]
    weight = torch.randn(1, TOTAL, 4, 8)
    found = []
    detached = [x.detach() for x in inputs]
    by_torch = flex.flex_attend(*detached[:3], SPANS, **options, s_aux=detached[3] if with_sinks else None)
    request.getfixturevalue("with_gradients")
    for attention in (flex.flex_attend, plain_attention):
        out = attention(query, key, value, SPANS, **more)
        found.append((out, *torch.autograd.grad((out * weight).sum(), wanted)))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_torch, found[1][0], rtol=1e-4, atol=1e-5)


def test_what_a_token_sees_by_hand() -> None:
    """A prompt of two, completions of one and two: the second completion does not see the first."""
    mask = flex._mask((Span(2, (1, 2)),), None, torch.device("cpu"))
    seen = [[bool(mask.mask_mod(0, 0, torch.tensor(q), torch.tensor(k))) for k in range(5)] for q in range(5)]
    assert [[int(x) for x in row] for row in seen] == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    windowed = flex._mask((Span(2, (1, 2)),), 2, torch.device("cpu"))
    seen = [[bool(windowed.mask_mod(0, 0, torch.tensor(q), torch.tensor(k))) for k in range(5)] for q in range(5)]
    assert [int(x) for x in seen[3]] == [0, 1, 0, 1, 0]  # at position two, as the third token is


right = flex.flex_attend


def broken(**instead: Any) -> Any:
    return lambda query, key, value, spans, **options: right(query, key, value, spans, **{**options, **instead})


@pytest.mark.usefixtures("with_gradients")
@pytest.mark.parametrize("what", ["scaling", "sliding_window", "softcap", "s_aux", "raises"])
def test_it_is_held_against_the_plain_path_before_use(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*args: Any, **options: Any) -> torch.Tensor:
        raise NotImplementedError("no such head size")

    shape = ("cpu", torch.float32, (16, 8), 2, 0.3, True, 2.0, True)
    tried = {"right": flex.flex_attend, "wrong": raises if what == "raises" else broken(**{what: None})}
    for name, kernel in tried.items():
        monkeypatch.setattr(flex, "flex_attend", kernel)
        flex.agrees.cache_clear()
        assert flex.agrees(*shape) is (name == "right")
    flex.agrees.cache_clear()


def test_memory_that_runs_out_is_no_disagreement() -> None:
    def kernel(*args: Any, **options: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        agreement.agrees_with_plain(kernel, "cpu", torch.float32, (16, 16), 1)


def test_a_plan_for_a_gpu_holds_no_scores() -> None:
    """Soft-capped heads of 4,096 tokens: scores would be 4 x 4,096 x 4,096 numbers; the output is 4 x 4,096 x 16."""
    peaks = {}
    for kernel in (None, varlen_kernel):
        bytes_ = LiveBytes()
        with varlen.standing_in(kernel), AsDevice(), bytes_:
            query = torch.empty(1, 4, 4096, 16, device="meta", requires_grad=True)
            options = 0.25, None, 2.0, torch.empty(4, device="meta")
            spans = (Span(4000, (96,)),)
            if flex.usable(query, query, query, 0.0, *options):
                flex.flex_attend(query, query, query, spans, *options).sum().backward()
            else:
                plain_attention(query, query, query, spans, 0.0, *options).sum().backward()
        peaks[kernel is not None] = bytes_.peak
    scores = 4 * 4096 * 4096 * 4
    assert peaks[False] > 2 * scores
    assert peaks[True] < scores / 20


def test_not_used_on_a_cpu_nor_with_dropout() -> None:
    query, key, value, sinks = tensors(torch.float32)
    assert not flex.usable(query, key, value, 0.0, None, None, 2.0, sinks)
    with varlen.standing_in(varlen_kernel):
        meta = torch.empty(1, 4, 8, 16, device="meta")
        assert flex.usable(meta, meta, meta, 0.0, None, None, 2.0, None)
        assert not flex.usable(meta, meta, meta, 0.1, None, None, 2.0, None)


@pytest.mark.usefixtures("with_gradients")
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gemma3_text", "gpt_oss"])
def test_a_models_packs_by_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probs and gradients of whole models, sliding layers and sinks among them, are those of the plain path."""
    found = []
    for takes in (True, False):
        model = build(name, SHARING[name])
        calls = []
        monkeypatch.setattr(flex, "usable", lambda *args, takes=takes, calls=calls: calls.append(1) or takes)
        scorer = Scorer(model)
        pack = scorer.pack(groups())
        with scorer.attending(pack):
            logps = scorer.token_logps(pack)
            (logps * torch.linspace(-1, 1, len(logps))).sum().backward()
        assert calls
        found.append([logps.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}, {"sliding_window": 4}, {"sliding_window": 4, "softcap": 2.0}], ids=str)
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize("sizes", [(64, 64), (128, 128), (192, 128)], ids=str)
def test_compiled_against_float64(dtype: torch.dtype, options: dict[str, Any], with_sinks: bool, sizes: tuple[int, int]) -> None:
    assert flex.agrees("cuda:0", dtype, sizes, 2, 0.125, "sliding_window" in options, options.get("softcap"), with_sinks)
    query, key, value, sinks = inputs = tensors(dtype, "cuda", sizes)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    more = {"scaling": 0.125, **options}
    ours = flex.flex_attend(query, key, value, SPANS, **more, s_aux=sinks if with_sinks else None)
    plain = plain_attention(*exact[:3], SPANS, **more, s_aux=exact[3] if with_sinks else None)
    assert float((ours.double() - plain).norm()) < agreement.NOISE[dtype] * float(plain.norm())
