"""What an optimizer keeps for each weight, and what its step takes besides, by transformers' names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefine.packing.out_of_memory import PIECE_BYTES

BLOCK, LEAST_QUANTISED = 256, 4096
"""bitsandbytes: weights that share a scale of four bytes, and the size below which a tensor's state stays in float32."""

Shape = Sequence[int]


def _size(shape: Shape) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def _floats(count: int) -> Callable[[Shape], float]:
    return lambda shape: 4.0 * count * _size(shape)


def _eight_bit(count: int) -> Callable[[Shape], float]:
    def states(shape: Shape) -> float:
        size = _size(shape)
        return count * (4.0 * size if size < LEAST_QUANTISED else size + 4.0 * -(-size // BLOCK))

    return states


def _factored(shape: Shape) -> float:
    """Adafactor without momentum: a row's and a column's mean of squares (arXiv 1804.04235)."""
    return 4.0 * (_size(shape[:-1]) + _size((*shape[:-2], shape[-1])) if len(shape) >= 2 else _size(shape))


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Attributes:
        states: bytes that it keeps for a tensor of a shape.
        step_tensors: copies of the largest tensor that a step makes; foreach: on CUDA it makes that many of all that move together.
        taken_back: whether the step keeps copies of what moves together, and of its states.
        counts: whether it keeps a number for each tensor, four bytes: of steps, or of Adafactor the root mean square.
        quantised: whether its states are of eight bits or fewer: those of embeddings then stay in float32.
    """

    states: Callable[[Shape], float]
    step_tensors: float = 0
    foreach: float = 0
    taken_back: bool = False
    counts: bool = False
    quantised: bool = False


ADAMW = Optimizer(_floats(2), 2, 1, True, counts=True)
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw_torch": ADAMW,
    "adamw_torch_fused": Optimizer(_floats(2), counts=True),
    "adamw_torch_8bit": Optimizer(_eight_bit(2), 2),
    "adafactor": Optimizer(_factored, 2, counts=True),
    "sgd": Optimizer(_floats(0), taken_back=True),
    "adagrad": Optimizer(_floats(1), 2, 1, True, counts=True),
    "rmsprop": Optimizer(_floats(1), 2, 1, True, counts=True),
    "lion_32bit": Optimizer(_floats(1)),
    "ademamix": Optimizer(_floats(3)),
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"), Optimizer(_eight_bit(2), quantised=True)),
    **dict.fromkeys(("lion_8bit", "paged_lion_8bit", "rmsprop_bnb_8bit"), Optimizer(_eight_bit(1), quantised=True)),
    **dict.fromkeys(("ademamix_8bit", "paged_ademamix_8bit"), Optimizer(_eight_bit(3), quantised=True)),
    **dict.fromkeys(("paged_adamw_32bit",), Optimizer(_floats(2))),
    **dict.fromkeys(("paged_lion_32bit", "rmsprop_bnb", "rmsprop_bnb_32bit"), Optimizer(_floats(1))),
    "paged_ademamix_32bit": Optimizer(_floats(3)),
}
"""Read in torch 2.13 (``torch/optim``), transformers 5.23 (``optimization.py``), torchao 0.18 and bitsandbytes. One that is
not here is taken for ``adamw_torch``. Pages may leave the GPU where it is full; they are counted as if they stayed."""


def state_bytes(optim: str, shapes: Sequence[tuple[Shape, bool]]) -> int:
    """Bytes of all states.

    Args:
        shapes: of each trained tensor, and whether it is an embedding.
    """
    one = OPTIMIZERS.get(optim, ADAMW)
    kept = sum((_floats(2) if one.quantised and embedding else one.states)(shape) for shape, embedding in shapes)
    return int(kept) + 4 * one.counts * len(shapes)


def step_bytes(optim: str, shapes: Sequence[tuple[Shape, bool]], device: str) -> int:
    """Bytes that a step takes and gives back."""
    one, sizes = OPTIMIZERS.get(optim, ADAMW), [_size(shape) for shape, _ in shapes]
    largest = max(sizes, default=0)
    together = max(largest, min(sum(sizes), PIECE_BYTES // 4))
    taken = 4 * (one.foreach * together if device == "cuda" and one.foreach else one.step_tensors * largest)
    return int(taken + one.taken_back * (4 * together + one.states((together,))))
