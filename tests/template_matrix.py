"""Chat templates of many families, and what each writes: the table of docs/templates.md, and what tests render with."""

from __future__ import annotations

import functools
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from prefine.packing.rendering import LeftOut, Renderer

HERE = Path(__file__).parent / "templates"
FAMILIES: dict[str, dict[str, Any]] = json.loads((HERE / "families.json").read_text())
"""Written from their documented formats; ``special`` are the marks that are tokens of their own."""
EOS = {
    **dict.fromkeys(("llama3", "llama3_1", "llama3_2"), "<|eot_id|>"),
    **dict.fromkeys(("gemma", "gemma3"), "<end_of_turn>"),
    **dict.fromkeys(("deepseek_r1_distill", "deepseekv3"), "<｜end▁of▁sentence｜>"),
    **{"phi3": "<|end|>", "phi3_5": "<|end|>", "smolvlm": "<end_of_utterance>", "idefics3": "<end_of_utterance>", "gptoss": "<|return|>"},
}


@functools.cache
def _core() -> str:
    """A byte tokenizer: it encodes any text, and decodes to the same."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return str(core.to_str())


def byte_tokenizer(template: str | None, eos: str = "<|im_end|>", bos: str = "<s>", special: tuple[str, ...] = ()) -> Any:
    """A byte tokenizer with a chat template."""
    tokens = list(dict.fromkeys(["<pad>", "<|im_start|>", "<|im_end|>", *special, eos]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_core()), pad_token="<pad>", bos_token=bos or "<s>", eos_token=eos
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [t for t in tokens if t not in ("<pad>", bos, eos)]})
    tokenizer.chat_template = template
    return tokenizer


def family(name: str) -> Any:
    """A tokenizer with the template of one of :data:`FAMILIES`."""
    about = FAMILIES[name]
    return byte_tokenizer((HERE / f"{name}.jinja").read_text(), about["eos"], about["bos"], tuple(about["special"]))


def shipped() -> dict[str, Path]:
    """Templates that the trl package ships, by name; its variants for training aside."""
    spec = find_spec("trl")
    folder = Path(next(iter(spec.submodule_search_locations or []))) / "chat_templates" if spec else HERE / "none"
    return {p.stem: p for p in sorted(folder.glob("*.jinja")) if not p.stem.endswith("_training")}


def trl_template(name: str) -> Any:
    """A tokenizer with one of :func:`shipped`'s templates."""
    return byte_tokenizer(shipped()[name].read_text(), EOS.get(name, "<|im_end|>"))


TOOL = {
    "type": "function",
    "function": {
        "name": "toolname",
        "description": "tooldescription",
        "parameters": {
            "type": "object",
            "properties": {"toolkey": {"type": "string", "description": "keydescription"}},
            "required": ["toolkey"],
        },
    },
}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "toolname", "arguments": {"toolkey": "callvalue"}}}],
}


def user(text: str = "firstquestion") -> dict[str, Any]:
    """A user's turn."""
    return {"role": "user", "content": text}


def said(text: str = "lastanswer", **more: Any) -> dict[str, Any]:
    """An assistant's turn."""
    return {"role": "assistant", "content": text, **more}


RESULT = {"role": "tool", "name": "toolname", "tool_call_id": "call00001", "content": "toolresult"}
PARTS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], Any]] = {
    "plain": ((user(),), (said(),), None),
    "several turns": ((user(), said("firstanswer"), user("secondquestion")), (said(),), None),
    "system": (({"role": "system", "content": "systemwords"}, user()), (said(),), None),
    "developer": (({"role": "developer", "content": "developerwords"}, user()), (said(),), None),
    "tools": ((user(),), (said(),), [TOOL]),
    "tool call": ((user(),), (CALL,), [TOOL]),
    "tool result": ((user(), CALL, RESULT), (said(),), [TOOL]),
    "reasoning": ((user(),), (said(reasoning_content="hiddenthought"),), None),
    "<think> in content": ((user(),), (said("<think>\nhiddenthought\n</think>\n\nlastanswer"),), None),
    "calls within the response": ((user(),), (CALL, RESULT, said()), [TOOL]),
}
"""Prompt, answer and tools of what a conversation may have; each word is one that no template writes."""
WORDS = (
    *("firstquestion", "secondquestion", "firstanswer", "lastanswer", "systemwords", "developerwords"),
    *("toolname", "tooldescription", "toolkey", "keydescription", "callvalue", "toolresult", "hiddenthought"),
)


def words_of(part: str) -> list[str]:
    """The words of a part that must be found again."""
    whole = json.dumps(PARTS[part])
    return [word for word in WORDS if word in whole]


def outcome(tokenizer: Any, part: str) -> tuple[str, str]:
    """``rendered``, ``converted`` or ``dropped``, and what was converted or why it was dropped."""
    prompt, answer, tools = PARTS[part]
    renderer = Renderer(tokenizer)
    try:
        renderer.render(prompt, [answer], tools)
    except LeftOut as left:
        return "dropped", left.reason
    return ("converted", "; ".join(renderer.notes)) if renderer.notes else ("rendered", "")


SIGNS = {"rendered": "yes", "converted": "converted", "dropped": "dropped"}


def matrix() -> str:
    """docs/templates.md."""
    tokenizers = {name: family(name) for name in FAMILIES} | {f"{name} (trl)": trl_template(name) for name in shipped()}
    lines = [
        "# What chat templates write",
        "",
        "Generated by `docs/generate.py`. A template may leave out what it does not know. Before a conversation is encoded, one of",
        "the same shape, with a word of its own in every part, is rendered, and every word must be found where it belongs; then the",
        "row's own words are. What a template leaves out is written otherwise where it can be (converted), or the row is dropped",
        "with the reason; where that is most rows, training refuses. `prefine data show SOURCE --model M --tokens` shows it.",
        "",
        "- **yes**: all of it is in the text, in its place.",
        "- **converted**: all of it is there, but something was written otherwise than it stands, and a line of the run says so.",
        "- **dropped**: the row is left out and counted under the reason.",
        "",
        'Contents in parts (`[{"type": "text", ...}]`) are read as text for every template, and given in parts where a template reads',
        "nothing else. `human`, `gpt`, `model` and the like are read as `user` and `assistant`, `developer` is written as `system` where",
        "the template does not know it, and a system message before the first question where a template has no place for one, in",
        "training and in use. Reasoning of turns before the last question is left out of prompts by many templates, in use as in",
        "training; a line says so.",
        "",
        "The upper families are written from their documented formats (`tests/templates`); those marked (trl) are shipped by that package.",
        "",
        f"| template | {' | '.join(p.replace('<think>', '`<think>`') for p in PARTS)} |",
        f"| --- |{' --- |' * len(PARTS)}",
    ]
    reasons: dict[str, list[str]] = {}
    for name, tokenizer in tokenizers.items():
        cells = []
        for part in PARTS:
            what, why = outcome(tokenizer, part)
            cells.append(SIGNS[what])
            if why:
                reasons.setdefault(f"{what}: {why}", []).append(f"{name}, {part}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "## Why", ""]
    for reason, where in sorted(reasons.items()):
        shown = "; ".join(where[:6]) + (f"; and {len(where) - 6} more" if len(where) > 6 else "")
        lines.append(f"- {reason.replace('<', '`<`')} ({shown.replace('<think>', '`<think>`')})")
    return "\n".join(lines) + "\n"
