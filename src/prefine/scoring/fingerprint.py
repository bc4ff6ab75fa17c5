"""What a model folder's content is known by, without reading all of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

READ = ("*.safetensors", "*.bin", "config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "*.jinja", "*.model")
WHOLE_BYTES = 2**26
SAMPLES, SAMPLE_BYTES = 256, 2**14


def fingerprint(name: str, commit: str | None = None) -> dict[str, str]:
    """File name -> hash of a model's weights, configuration and tokenizer; of an adapter its base's files too.

    Files over 64 MiB are known by their size, their first 64 KiB (of safetensors: the header) and 256 samples spread evenly.

    Args:
        name: a folder, or a Hub id; commit: the Hub's, which stands for all files.
    """
    folder = Path(name)
    if not folder.is_dir():
        return {name: commit} if commit else {}
    out = {p.name: _hash(p) for pattern in READ for p in sorted(folder.glob(pattern)) if p.is_file()}
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        base = str(json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
        if base and Path(base).resolve() != folder.resolve():
            out |= {f"base {file}": known for file, known in fingerprint(base).items()}
    return out


def _hash(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as stream:
        if size <= WHOLE_BYTES:
            digest.update(stream.read())
        else:
            digest.update(stream.read(4 * SAMPLE_BYTES))
            for i in range(SAMPLES):
                stream.seek((size - SAMPLE_BYTES) * i // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()
