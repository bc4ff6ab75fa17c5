"""How much of several GPUs' time is spent waiting for the one with the most tokens: rows dealt by count, and dealt by tokens.

    python benchmarks/idle_ranks.py --data HH_RLHF.jsonl.gz --model MODEL

Lengths of real pairs by MODEL's tokenizer, and of long responses (log-normal, medians 200 and 600 tokens, sigma .6, as gpu_dpo.py has
them). A batch is dealt to N processes; each computes its pairs with the prompt once, and waits for the others at the update. The share is
1 - mean / most tokens of a process, over batches. By count is what accelerate's sampler does; by tokens is what Prefine's trainers do.
"""

from __future__ import annotations

import argparse

import numpy as np

from prefine.training.dealing import dealt

RANKS = (2, 4, 8, 16, 32, 64)
BATCHES = 200


def real_lengths(data: str, model: str) -> np.ndarray:
    """Tokens of each pair, its prompt once."""
    from transformers import AutoTokenizer

    import prefine
    from prefine.packing.encoding import Encoder

    encoder = Encoder(AutoTokenizer.from_pretrained(model))
    groups = (encoder.encode_pair(pair) for pair in prefine.load_preferences(data))
    return np.array([group.num_tokens() for group in groups if group is not None])


def long_lengths(rng: np.random.Generator) -> np.ndarray:
    """Tokens of pairs of long responses."""
    prompt, *responses = (rng.lognormal(np.log(median), 0.6, 5000) for median in (200, 600, 600))
    return np.round(prompt + sum(responses)).astype(int)


def idle(tokens_NP: np.ndarray) -> float:
    """Share of the time that processes wait, of their tokens in each batch (batches, processes)."""
    return float(1 - tokens_NP.mean(1).sum() / tokens_NP.max(1).sum())


def shares(lengths: np.ndarray, ranks: int, each: int, rng: np.random.Generator) -> tuple[float, float]:
    """Shares by count and by tokens, of the same batches."""
    by_count, by_tokens = [], []
    for _ in range(BATCHES):
        batch = rng.choice(lengths, ranks * each)
        by_count.append(batch.reshape(ranks, each).sum(1))
        by_tokens.append([batch[places].sum() for places in dealt(batch.tolist(), ranks, each)])
    return idle(np.array(by_count)), idle(np.array(by_tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| lengths | pairs a process | dealt by | " + " | ".join(str(r) for r in RANKS) + " |")
    print("| --- " * (3 + len(RANKS)) + "|")
    for name, lengths in (("hh-rlhf", real_lengths(args.data, args.model)), ("long responses", long_lengths(rng))):
        for each in (4, 16):
            found = [shares(lengths, ranks, each, rng) for ranks in RANKS]
            for place, how in enumerate(("count", "tokens")):
                cells = " | ".join(f"{100 * share[place]:.0f} %" for share in found)
                print(f"| {name} | {each} | {how} | {cells} |")


if __name__ == "__main__":
    main()
