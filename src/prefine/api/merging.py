"""One plain model folder out of base and adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.quiet import quiet_transformers
from prefine.api.tables import Shows
from prefine.errors import ConfigError
from prefine.runs import RunDirectory


@dataclass
class MergeOptions:
    """Options of ``prefine merge``."""

    run: str = field(default="", metadata={"help": "Run directory, or a folder with an adapter (also as the first word)."})
    output: str | None = field(default=None, metadata={"help": "Folder for the merged model. Unset: RUN/merged."})
    dtype: str = field(default="float32", metadata={"help": "Precision to merge and save in: float32, bfloat16 or float16."})
    push_to_hub: str | None = field(
        default=None, metadata={"help": "Upload it with its model card, as owner/name; the token is the Hub's own login."}
    )
    private: bool = field(default=True, metadata={"help": "--no-private: make the Hub's repository public."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


@dataclass(repr=False)
class MergedModel(Shows):
    """A plain model folder, and what there is to say of it."""

    folder: Path
    lines: list[str]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*self.lines]


@call(MergeOptions, positional=("run", "output"))
def merge(given: MergeOptions, progress: Progress) -> MergedModel:
    """Fold a run's adapter into its base: a folder that transformers, vLLM and llama.cpp's converter load; proven equal first.

    Raises:
        PrefineError: no run or adapter, or a merge that would not be equal.
    """
    if not given.run:
        raise ConfigError("merge needs a RUN: the --output-dir of a training run")
    if given.push_to_hub is not None and given.push_to_hub.count("/") != 1:
        raise ConfigError(f"--push-to-hub {given.push_to_hub}: expected owner/name")
    progress.stage("loading the model")
    quiet_transformers()
    from prefine.scoring.loading import pick_dtype
    from prefine.scoring.merging import merge as fold

    is_run = (Path(given.run) / "config.yaml").exists()
    if not is_run and given.output is None:
        raise ConfigError(f"{given.run} is a model's folder, not a run's: say where the merged model goes, with --output FOLDER")
    run, lines = RunDirectory(given.run), []
    source = run.model if is_run else Path(given.run)
    bits = next((bits for bits in (4, 8) if is_run and run.config().get(f"load_in_{bits}bit")), None)
    if bits:
        lines.append(
            f"trained on a {bits}-bit base: merging into the base in full precision, which responds a little differently; judge the "
            "merged model"
        )
    merged = fold(source, Path(given.output or f"{given.run}/merged"), pick_dtype(given.dtype)[0], given.trust_remote_code)
    if is_run:
        from prefine.report.model_card import model_card
        from prefine.runs import write_text

        write_text(merged.folder / "README.md", model_card(run, whole=True))
    how = "no adapter: saved as it is" if merged.difference is None else f"largest difference of a log-prob {merged.difference:.1e} nats"
    lines.append(f"{merged.folder}: {merged.dtype}; {how}")
    if given.push_to_hub:
        lines.append(f"uploaded: {_push(merged.folder, given.push_to_hub, given.private)}")
    return MergedModel(merged.folder, lines)


def _push(folder: Path, name: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=str(folder)))
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"--push-to-hub {name}: {first}; log in with: hf auth login. The model is kept in {folder}", code="PF-F03"
        ) from error
