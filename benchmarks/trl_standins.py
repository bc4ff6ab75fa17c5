"""Stand-ins for the tiny models and data sets that TRL's tests load from the Hub, made in a folder.

    python benchmarks/trl_standins.py ROOT          # ROOT holds tests/ and scripts/ of TRL's repository

Data comes from the repository's own generators; models are random, of the architectures that the tests name, with two layers and one
byte-level tokenizer trained on that data.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

OWNER = "trl-internal-testing"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SMALL = {"hidden_size": 8, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 32}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny-Qwen2ForCausalLM-2.5": ("Qwen2ForCausalLM", {}),
    "tiny-Qwen2ForSequenceClassification-2.5": ("Qwen2ForSequenceClassification", {"num_labels": 1}),
    "tiny-Qwen3ForCausalLM": ("Qwen3ForCausalLM", {"head_dim": 8}),
    "tiny-Qwen3MoeForCausalLM": (
        "Qwen3MoeForCausalLM",
        {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "tiny-LlamaForCausalLM-3.2": ("LlamaForCausalLM", {}),
    "tiny-GPTNeoXForCausalLM": ("GPTNeoXForCausalLM", {"num_key_value_heads": None}),
    "tiny-GptOssForCausalLM": ("GptOssForCausalLM", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "tiny-Cohere2ForCausalLM": ("Cohere2ForCausalLM", {}),
    "tiny-Glm4MoeForCausalLM": (
        "Glm4MoeForCausalLM",
        {"head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1},
    ),
    "tiny-Olmo3ForCausalLM": ("Olmo3ForCausalLM", {}),
    "tiny-Lfm2ForCausalLM": ("Lfm2ForCausalLM", {"layer_types": ["full_attention", "conv"]}),
    "tiny-MistralForCausalLM-0.2": ("MistralForCausalLM", {}),
    "tiny-CohereForCausalLM": ("CohereForCausalLM", {}),
    "tiny-Phi3ForCausalLM": ("Phi3ForCausalLM", {}),
    "tiny-Gemma2ForCausalLM": ("Gemma2ForCausalLM", {"head_dim": 8}),
}
"""Name -> class of transformers, and settings beside :data:`SMALL`; those that an architecture does not take are dropped where None."""


def make_data(root: Path) -> None:
    """Run the repository's generators, with pushing to the Hub replaced by writing below ``root``."""
    from datasets import DatasetDict

    made: dict[str, dict[str, list[str]]] = defaultdict(dict)

    def save(self: Any, repo_id: str, config_name: str = "default", **_: Any) -> None:
        folder = root / repo_id / config_name
        folder.mkdir(parents=True, exist_ok=True)
        for split, data in self.items():
            data.to_parquet(folder / f"{split}.parquet")
        made[repo_id][config_name] = list(self)

    DatasetDict.push_to_hub = save
    sys.path.insert(0, str(root / "scripts"))
    for name in ("zen", "toolcall"):
        module = __import__(f"generate_{name}_dataset")
        module.main(0.1, True, f"{OWNER}/{name}")
    for repo, configs in made.items():
        listed = [
            {"config_name": config, "data_files": [{"split": s, "path": f"{config}/{s}.parquet"} for s in splits]}
            for config, splits in configs.items()
        ]
        (root / repo / "README.md").write_text(f"---\n{json.dumps({'configs': listed})}\n---\n")


def make_tokenizer(root: Path) -> Any:
    """A byte-level tokenizer of some 800 tokens with the chat template that the trl package ships for Qwen 2.5."""
    import trl
    from datasets import Dataset
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    rows = Dataset.from_parquet(str(root / OWNER / "zen/standard_preference/train.parquet")).to_list()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(map(str, rows), trainers.BpeTrainer(vocab_size=800, special_tokens=SPECIAL, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=SPECIAL[0], eos_token=SPECIAL[2])
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen2_5.jinja").read_text()
    return tokenizer


def make_models(root: Path, tokenizer: Any) -> None:
    """Random models in bfloat16, as those on the Hub are; one of them with code of its own."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 2}
    for name, (kind, more) in MODELS.items():
        settings = {"num_key_value_heads": 2, **SMALL, **tokens, **more}
        cls = getattr(transformers, kind)
        model = cls(cls.config_class(**{k: v for k, v in settings.items() if v is not None}))
        model.to(torch.bfloat16).save_pretrained(root / OWNER / name)
        tokenizer.save_pretrained(root / OWNER / name)
    recurrent = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8}
    mamba = transformers.FalconMambaForCausalLM(transformers.FalconMambaConfig(**recurrent, **tokens))
    mamba.to(torch.bfloat16).save_pretrained(root / OWNER / "tiny-FalconMambaForCausalLM")
    tokenizer.save_pretrained(root / OWNER / "tiny-FalconMambaForCausalLM")
    make_remote(root / OWNER / "tiny-RemoteForCausalLM", root / OWNER / "tiny-Qwen2ForCausalLM-2.5")


def make_remote(folder: Path, like: Path) -> None:
    """A Qwen 2 under another name, whose classes come in a file beside it."""
    import shutil

    shutil.copytree(like, folder, dirs_exist_ok=True)
    (folder / "modeling_remote.py").write_text(
        "from transformers import Qwen2Config, Qwen2ForCausalLM\n\n\n"
        "class RemoteConfig(Qwen2Config):\n    model_type = 'remote'\n\n\n"
        "class RemoteForCausalLM(Qwen2ForCausalLM):\n    config_class = RemoteConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "remote", "architectures": ["RemoteForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "modeling_remote.RemoteConfig", "AutoModelForCausalLM": "modeling_remote.RemoteForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def main() -> int:
    """Make all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    root = parser.parse_args().root.resolve()
    make_data(root)
    make_models(root, make_tokenizer(root))
    print(f"stand-ins in {root / OWNER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
