"""The lab's word tokenizer and its Llama-shaped model of under a million parameters."""

from __future__ import annotations

from typing import Any

from prefine.lab.language import vocabulary

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<user> {{ m['content'] }} "
    "{% elif m['role'] == 'assistant' %}<assistant> {{ m['content'] }} <end>"
    "{% else %}{{ raise_exception('the lab knows user and assistant only, not ' + m['role']) }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer() -> Any:
    """One token a word, with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unknown>", "<user>", "<assistant>", "<end>"]
    words = {w: i for i, w in enumerate([*special, *vocabulary()])}
    core = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unknown>",
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_model(seed: int, hidden: int = 96, layers: int = 3) -> Any:
    """A Llama with random weights: 0.4 million parameters as it stands."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = len(vocabulary()) + 5
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.08,  # about 1 / sqrt(hidden); with the usual 0.02 copying is not learnt in 600 steps
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=4,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
