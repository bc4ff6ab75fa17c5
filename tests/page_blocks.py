"""The code on a page: its blocks in order, and what a comment before one says of it.

A block is a fence with a language, or indented lines that begin with a command. Before it may stand

    <!-- not run: reason -->     it is read by people alone
    <!-- exits with 2 -->        its last command ends with this code
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SHELL = {"bash", "console", "sh", "shell"}
CODE = {*SHELL, "python", "yaml", "json", "jsonl"}
"""Languages of what is run or read; blocks of any other are words."""
COMMANDS = ("prefine", "make", "pip", "python", "git", "pytest", "accelerate", "docker", "vllm", "export")
STARTS = re.compile(rf"(?:\$ )?(?:\.venv/bin/)?(?:{'|'.join(COMMANDS)}) \S")
FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<language>[\w+-]*)[^`]*$")
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
NAMED = re.compile(r"(?:#|//) (?:file: )?([\w./-]+\.(?:py|ya?ml|jsonl?|txt|jinja|csv))$")
EXITS = re.compile(r"exits with (\d+)$")


@dataclass(frozen=True)
class Block:
    """Code on a page.

    Attributes:
        line: where its first line stands.
        not_run: the reason why it is not run; None: it is.
        exits: the code that its last command ends with.
        file: the name of the file that its first line says it is.
    """

    language: str
    text: str
    line: int
    not_run: str | None = None
    exits: int = 0
    file: str | None = None


def blocks(page: str) -> list[Block]:
    """All blocks of a page of Markdown."""
    found: list[Block] = []
    lines = page.splitlines()
    said = ""  # the comment that stands right before
    place = 0
    while place < len(lines):
        line = lines[place]
        fence = FENCE.match(line)
        if fence:
            body, end = _fenced(lines, place, fence["marks"], len(fence["indent"]))
            language = fence["language"].lower()
            if not language and body and STARTS.match(body[0]):
                language = "bash"
            found += _block(language, body, place + 2, said)
            said, place = "", end + 1
        elif line.startswith("    ") and (place == 0 or not lines[place - 1].strip()):
            end = place
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            body = [b[4:] for b in lines[place:end]]
            if STARTS.match(body[0]):
                found += _block("bash", body, place + 1, said)
            said, place = "", end
        elif line.lstrip().startswith("<!--"):
            end = place
            while "-->" not in lines[end]:
                end += 1
            comment = COMMENT.search("\n".join(lines[place : end + 1]))
            said = " ".join(comment.group(1).split()) if comment else ""
            place = end + 1
        else:
            said = "" if line.strip() else said
            place += 1
    return found


def _fenced(lines: list[str], start: int, marks: str, indent: int) -> tuple[list[str], int]:
    end = start + 1
    while end < len(lines) and lines[end].strip() != marks:
        end += 1
    return [line[indent:] if line[:indent].isspace() else line for line in lines[start + 1 : end]], end


def _block(language: str, body: list[str], line: int, said: str) -> list[Block]:
    if language not in CODE:
        return []
    reason = said.removeprefix("not run:").strip() if said.startswith("not run:") else None
    exits = EXITS.match(said)
    named = NAMED.match(body[0].strip()) if body else None
    text = "\n".join(body).rstrip() + "\n"
    return [Block(language, text, line, reason, int(exits.group(1)) if exits else 0, named.group(1) if named else None)]


def commands(text: str) -> list[str]:
    """The commands of a shell block; where lines begin with ``$``, the others are what was printed."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
