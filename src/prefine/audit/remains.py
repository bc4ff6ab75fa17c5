"""Remains of chat templates in a text: the marks that models put around turns."""

from __future__ import annotations

import re

MARK = re.compile(
    # <|im_start|>, <|header_start|>, <|START_OF_TURN_TOKEN|>, <|end_of_turn|>, and DeepSeek's with wide bars
    r"<[|｜][A-Za-z][\w▁ ]{1,40}[|｜]>"
    r"|<(?:start_of_turn|end_of_turn|start_of_role|end_of_role|reserved_10[67]|extra_id_[01]|eos|bos|eoh|eoa|sop|eod|s_sep)>"
    r"|<\|turn>|<turn\|>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK)\]|\[\|(?:system|user|assistant|endofturn)\|\]"
    r"|<</?SYS>>|\[(?:PAD|CLS|SEP|UNK|USER|ASSISTANT)\]|<(?:pad|unk)>|<\|? ?im_(?:start|end)\b|\bim_(?:start|end) ?\|>|<\| (?:im_"
    r"|start|end|eot|user|assistant|system)\w* \|>|&lt;\|\w+\|&gt;"
    r"|\{\{ ?(?:bos|eos)_token ?\}\}|\{% for message in messages|\{(?:user_message|user_input|system_prompt)\}"
)
HEADED = re.compile(
    r"#{2,3} ?(?:Instruction|Response|Human|Assistant|User|System) ?:|#{2,3} ?Instruction\s*\n(?s:.){0,4000}?\n[ \t]*#{2,3} ?Response\b"
)
SPOKEN = re.compile(
    r"\n\n(?:Assistant):|GPT4(?: Correct)? (?:User|Assistant):|(?:^|[\n.!?] ?)(?:USER|HUMAN): (?s:.){0,4000}?\b(?:ASSISTANT|BOT|AI):"
    r"|(?m:^)(?:User|Human): (?s:.){0,4000}?\n(?:Assistant|AI|Bot|Falcon):|\nHuman: \S|\nAssistant: *\n"
    r"|(?m:^)Instruct: (?s:.){0,4000}?\nOutput:|(?m:^ASSISTANT:)|\A\s*(?:Assistant|Chatbot): "
)
SPEAKERS = ("ssistant:", "ASSISTANT:", "BOT:", "AI:", "Bot:", "Falcon:", "Human:", "GPT4", "Output:", "Chatbot:")


def templated(text: str) -> bool:
    """Whether a text holds marks of a chat template."""
    if ("<" in text or "[" in text or "|>" in text or "|&gt;" in text or "{" in text) and (
        MARK.search(text) or ("</s>" in text and _closed(text))
    ):
        return True
    if "##" in text and HEADED.search(text):
        return True
    return ":" in text and any(map(text.__contains__, SPEAKERS)) and bool(SPOKEN.search(text))


def _closed(text: str) -> bool:
    """Whether ``</s>`` ends a text, and not a passage that ``<s>`` strikes out in HTML."""
    return text.count("</s>") > text.count("<s>") or text.lstrip().startswith("<s>")
