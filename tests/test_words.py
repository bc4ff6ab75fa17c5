"""What a reader sees uses the field's words, and messages that pages quote are those that are printed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from prefine.cli import COMMANDS, OWN_WORDS, find

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
OLD = {
    r"(?<!reference )(?<![\w-])answers?(?![\w-])": "response (or completion)",
    r"\bgold\b": "oracle",
    r"\bnot shown\b": "inconclusive",
    r"\bwhole checkpoint": "complete checkpoint",
    r"\bnats an? \w+": "nats/token or nats/response",
    r"\btokens a second": "tokens/s",
    r"\bend token": "EOS",
    r"\blearnt\b": "learned",
    r"(?<![\w-])cut (?:at|short|off|when|to)\b": "truncated",
    r"\bin any form\b|\bthe data's form\b": "format",
}
"""Words of earlier versions, or a newcomer's puzzles, and the field's."""
FINE = re.compile(r"\{answer|answer the rest|reference answers?|\*gold\*|\*not shown\*|cut the prompt off")


def old_words(text: str) -> list[str]:
    text = FINE.sub("", text)
    return [
        f"{m.group()!r}, say {word}: {text[max(0, m.start() - 40) : m.end() + 40]!r}"
        for old, word in OLD.items()
        for m in re.finditer(old, text)
    ]


def least_and_most(text: str) -> list[str]:
    """A limit's help begins with the field's word for it."""
    return re.findall(r"^(?:Most|Least|Fewest) \w+", text)


def prose(page: str) -> list[str]:
    """A page's lines without code; the glossary's table of old words aside."""
    text = (ROOT / page).read_text(encoding="utf-8").partition("## Old word here, word now")[0]
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return [re.sub(r"`[^`]*`", "`", line) for line in text.split("\n") if not line.startswith("    ")]


@pytest.mark.parametrize("page", PAGES)
def test_pages_use_the_fields_words(page: str) -> None:
    assert not [found for line in prose(page) for found in old_words(line)]


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in OWN_WORDS])
def test_help_uses_the_fields_words(name: str) -> None:
    command = find(name)
    own = [o for o in command.options().values() if not o.group.startswith("transformers")]
    assert not [found for text in (command.help(), *(o.help for o in own)) for found in (*old_words(text), *least_and_most(text))]


def literals() -> list[str]:
    """All pieces of text in the package's code, of some length."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return [text.strip() for text in found if len(text.strip()) >= 14]


def test_troubleshooting_quotes_what_is_printed() -> None:
    """Each message on the page holds a piece of text that the code holds, and no other words of any length."""
    texts = literals()
    lines = [line.strip() for line in (ROOT / "docs/troubleshooting.md").read_text().split("\n") if line.startswith("    ")]
    assert len(lines) > 20
    for line in lines:
        rest = line.removeprefix("prefine: error: ")
        if len(rest) > 40:
            assert any(text in rest for text in texts), line
