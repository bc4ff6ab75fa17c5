"""What ends a response: the tokenizer's end token, those of the model's settings, and what its chat template ends a turn with."""

from __future__ import annotations

from typing import Any

from prefine.errors import ModelError
from prefine.packing.encoding import Encoder


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """All tokens that end an answer: the tokenizer's, those of the model's generation settings, the chat template's end of a turn.

    Raises:
        ModelError: the settings name something else than ids.
    """
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    if not all(t is None or isinstance(t, int) for t in listed):
        name = getattr(model, "name_or_path", "the model")
        raise ModelError(f"{name}: eos_token_id of its generation_config.json is {configured!r}, no token's id; mend it")
    return list(dict.fromkeys(int(t) for t in [tokenizer.eos_token_id, *listed, turn_end(tokenizer)] if t is not None))


def keep_ends(model: Any, tokenizer: Any) -> None:
    """Have the model's generation settings, which are saved with it, name all of :func:`end_tokens`."""
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return
    ends, known = end_tokens(model, tokenizer), settings.eos_token_id
    if not set(ends) <= set(known if isinstance(known, list) else [known]):
        settings.eos_token_id = ends if len(ends) > 1 else ends[0]


def turn_end(tokenizer: Any) -> int | None:
    """The token that the chat template ends a response with; None where there is no template, or it does not write a plain response."""
    template = getattr(tokenizer, "chat_template", None)
    if template is None:
        return None
    key = (template, tokenizer.eos_token_id)
    known: tuple[Any, int | None] | None = getattr(tokenizer, "__dict__", {}).get("_prefine_turn_end")
    if known is None or known[0] != key:
        known = key, _turn_end(Encoder(tokenizer))
        tokenizer.__dict__["_prefine_turn_end"] = known
    return known[1]


def _turn_end(encoder: Encoder) -> int | None:
    unknown = getattr(encoder.tokenizer, "unk_token_id", None)
    group = encoder.encode(({"role": "user", "content": "Say yes."},), ["yes"])
    if group is None:
        return None
    end = None
    for token in reversed(group.completion_ids[0].tolist()):
        if token in encoder.end_ids and (token != unknown or token == encoder.tokenizer.eos_token_id):
            end = token
        elif token == unknown or encoder.tokenizer.decode([token]).strip():
            break
    return end
