"""What the site shows of files that lie outside ``docs``: a hook of mkdocs."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/RESULTS.md": "results.md",
}
"""A file of the repository -> its page."""
PARTS = {"docs/audit-recall.md": "audit.md"}
"""A file that is a part of another page."""
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at pages; a file of the repository that is no page is named without a link."""
    sources = {name: source for source, name in PAGES.items()}
    name = page.file.src_uri
    folder = posixpath.dirname(sources.get(name, f"docs/{name}"))

    def pointed(found: re.Match[str]) -> str:
        text, target, anchor = found.groups(default="")
        place = posixpath.normpath(posixpath.join(folder, target))
        if place in PAGES or place in PARTS:
            return f"[{text}]({(PAGES | PARTS)[place]}{anchor})"
        if place.startswith("docs/"):
            return f"[{text}]({place.removeprefix('docs/')}{anchor})"
        return text if (ROOT / place).exists() else found.group()

    return LINK.sub(pointed, markdown)
