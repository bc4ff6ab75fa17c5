"""KTO and its kin: TRL's losses step by step, sharing that changes nothing, mismatches that are none of the prompt's own, known optima."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

import prefine
from conftest import lab_pairs
from prefine.errors import ConfigError, DataError
from prefine.losses.unpaired import UNPAIRED
from prefine.packing.group import MISMATCHED, WANTED
from prefine.preferences.records import Labelled, Pair
from prefine.training.mismatched import partners

QUIET = "ignore::prefine.training.prepared.DataWarning"


def labelled(count: int, good: int = 2, of: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of which ``good`` in ``of`` are wanted; prompts are all different."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in lab_pairs(4 * count, seed):
        if json.dumps(row["prompt"]) in seen or len(rows) == count:
            continue
        seen.add(json.dumps(row["prompt"]))
        label = len(rows) % of < good
        answer = [{"role": "assistant", "content": row["chosen" if label else "rejected"]}]
        rows.append({"prompt": row["prompt"], "completion": answer, "label": label})
    return rows


class Given(tuple[Any, ...]):
    """Rows that are handed over as they are."""


def trained(package: Any, model: Any, rows: Any, folder: Path, **settings: Any) -> Any:
    """A KTO trainer of a package that trained."""
    fixed = {"max_steps": 10, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False}
    fixed |= {"save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False, "learning_rate": 1e-3}
    more = {
        name: settings.pop(name)
        for name in ("peft_config", "eval_dataset", "processing_class", "ref_model", "callbacks")
        if name in settings
    }
    if isinstance(model, str | Path):
        model, fixed = str(model), fixed | {"model_init_kwargs": {"dtype": "float32"}}
    resume = settings.pop("resume", None)
    args = package.KTOConfig(output_dir=str(folder), **{**fixed, **settings})
    data = Dataset.from_list(rows) if isinstance(rows, list) else list(rows) if isinstance(rows, Given) else rows
    trainer = package.KTOTrainer(model=model, args=args, train_dataset=data, **more)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


METRICS = ("loss", "grad_norm", "kl", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected",
           "logits/chosen", "logits/rejected", "entropy", "num_tokens", "eval_loss", "eval_kl", "eval_rewards/chosen")  # fmt: skip


def logged(trainer: Any, names: tuple[str, ...] = METRICS) -> list[dict[str, float]]:
    logs = [{name: float(entry[name]) for name in names if name in entry} for entry in trainer.state.log_history]
    return [entry for entry in logs if "loss" in entry or "eval_loss" in entry]


def pairs(count: int) -> list[dict[str, Any]]:
    return lab_pairs(count)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (labelled(40), {}),
        (labelled(40), {"loss_type": "apo_zero_unpaired"}),
        (labelled(40, 1, 4), {"beta": 0.5, "desirable_weight": 3.0, "undesirable_weight": 0.5}),
        (labelled(40), {"gradient_accumulation_steps": 2, "max_steps": 5}),
        (labelled(40), {"precompute_ref_log_probs": True}),
        (labelled(38, 9, 10), {"max_steps": 9}),
        (labelled(40), {"loss_type": "apo_zero_unpaired", "max_length": 14}),
    ],
    ids=lambda v: json.dumps(v).replace(" ", "")[:60] if isinstance(v, dict) else f"{len(v)}",
)
def test_losses_and_gradients_are_trls(rows: list[dict[str, Any]], settings: dict[str, Any], lab_model: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    settings = {"eval_dataset": Dataset.from_list(labelled(8, seed=5)), "eval_strategy": "steps", "eval_steps": 5} | settings
    settings |= {"per_device_eval_batch_size": 4}

    theirs = logged(trained(trl, lab_model, rows, tmp_path / "b", **settings))
    ours = logged(trained(prefine, lab_model, rows, tmp_path / "a", token_budget="150", **settings))
    assert len(ours) == len(theirs) >= 6
    for mine, other in zip(ours, theirs, strict=True):
        assert {"loss", "grad_norm", "rewards/chosen"} <= mine.keys() or "eval_loss" in mine
        loss = "loss" if "loss" in mine else "eval_loss"
        assert mine[loss] == pytest.approx(other[loss], abs=5e-6)
        # Of an accumulated batch TRL takes the mean of its parts' means, however many tokens and labels each has.
        names = {loss, "grad_norm", "kl", "num_tokens"} & set(mine) if "gradient_accumulation_steps" in settings else set(mine)
        assert {n: mine[n] for n in names} == pytest.approx({n: other[n] for n in names}, rel=3e-5, abs=3e-5)


class Gradients(TrainerCallback):
    """Keeps every step's gradients, in float64."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        self.kept.append({n: p.grad.double().clone() for n, p in model.named_parameters()})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_every_weights_gradient_is_trls(loss: str, lab_model: Path, tmp_path: Path) -> None:
    """On ten batches of a policy that lies away from its reference and is not moved: losses to 1e-6, gradients by weight."""
    trl = pytest.importorskip("trl")
    rows, found = labelled(40, 2, 3), []
    for package in (prefine, trl):
        policy, reference = (AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float32) for _ in range(2))
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in policy.parameters():
                weight += 0.02 * torch.randn_like(weight)
        keeper, tokenizer = Gradients(), AutoTokenizer.from_pretrained(lab_model)
        more = {"ref_model": reference, "processing_class": tokenizer, "callbacks": [keeper]}
        settings = {"learning_rate": 0.0, "loss_type": loss, "max_grad_norm": 0.0, "desirable_weight": 1.5}
        trainer = trained(package, policy, rows, tmp_path / package.__name__, **more, **settings)
        found.append(([entry["loss"] for entry in logged(trainer)], keeper.kept))
    (ours, mine), (theirs, other) = found
    assert len(ours) == len(theirs) == len(mine) == len(other) == 10
    assert ours == pytest.approx(theirs, abs=1e-6)
    for a, b in zip(mine, other, strict=True):
        assert a.keys() == b.keys()
        most = max(float(g.abs().max()) for g in b.values())
        assert most > 1e-3
        assert max(float((a[n] - b[n]).abs().max()) for n in b) < 1e-5 * most


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize("loss", sorted(UNPAIRED))
@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "LoRA"])
def test_packs_and_sharing_change_nothing(loss: str, adapter: bool, lab_model: Path, tmp_path: Path) -> None:
    """A batch in one pack or in many; rows of one prompt, which is computed once, or with the reference's log-probs from before."""
    from peft import LoraConfig

    rows = [row | {"prompt": other["prompt"]} for row, other in zip(labelled(48), (r for r in labelled(12) for _ in range(4)), strict=True)]
    peft = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if adapter else None
    settings = {"loss_type": loss, "per_device_train_batch_size": 12, "max_steps": 4, "peft_config": peft, "balance_labels": True}
    found = {
        name: trained(prefine, lab_model, rows, tmp_path / name, **settings, **more)
        for name, more in {
            "whole": {"token_budget": "4000"},
            "cut": {"token_budget": "60"},
            "known": {"precompute_ref_log_probs": True},
        }.items()
    }
    expected = logged(found["whole"])
    for name in ("cut", "known"):
        for mine, other in zip(logged(found[name]), expected, strict=True):
            assert mine == pytest.approx(other, rel=1e-4, abs=1e-5), name
    saved = [entry["tokens_saved_by_sharing"] for entry in found["whole"].state.log_history if "loss" in entry]
    assert min(saved) > 0.2


def by_hand(trainer: Any, rows: list[dict[str, Any]], beta: float, weights: tuple[float, float]) -> float:
    """KTO's loss (arXiv 2402.01306) of one batch by plain forwards of policy and reference, response by response."""
    tokenizer, policy, reference = trainer.processing_class, trainer.scorer.unwrapped, trainer.ref_model

    def logp(model: Any, prompt: Any, answer: Any) -> float:
        ids = [
            list(tokenizer.apply_chat_template(m, add_generation_prompt=more, return_dict=True)["input_ids"])
            for m, more in ((prompt, True), ([*prompt, *answer], False))
        ]
        with torch.no_grad():
            logits = model(torch.tensor([ids[1]])).logits[0].log_softmax(-1)
        return sum(float(logits[i - 1, ids[1][i]]) for i in range(len(ids[0]), len(ids[1])))

    def ratio(prompt: Any, answer: Any) -> float:
        return logp(policy, prompt, answer) - logp(reference, prompt, answer)

    mismatched = [ratio(row["prompt"], rows[i - 1]["completion"]) for i, row in enumerate(rows)]
    baseline = max(0.0, sum(mismatched) / len(rows))
    total = 0.0
    for row in rows:
        margin = ratio(row["prompt"], row["completion"]) - baseline
        total += weights[not row["label"]] / (1 + math.exp(beta * (margin if row["label"] else -margin)))
    return total / len(rows)


@pytest.mark.filterwarnings(QUIET)
def test_the_loss_by_hand(lab_model: Path, tmp_path: Path) -> None:
    rows = labelled(12)
    trainer = trained(prefine, lab_model, rows, tmp_path, per_device_train_batch_size=12, max_steps=3, balance_labels=True, beta=0.3)
    assert trainer.label_weights == (1.0, 2.0)  # eight wanted, four unwanted
    measured = trainer.evaluate(Dataset.from_list(rows))
    trainer.args.per_device_eval_batch_size = 12
    measured = trainer.evaluate(Dataset.from_list(rows))
    assert measured["eval_loss"] == pytest.approx(by_hand(trainer, rows, 0.3, (1.0, 2.0)), abs=1e-5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 12))
def test_a_partner_is_of_another_prompt(prompts: list[int], block: int) -> None:
    keys = np.array(prompts, np.uint64)
    found = partners(keys, block)
    if len(set(prompts)) > 1:
        assert (keys[found] != keys).all()
    if len(set(prompts)) == len(prompts):  # TRL's rotation of each batch by one
        expected = [at for start in range(0, len(prompts), block) for at in np.roll(np.arange(start, min(start + block, len(prompts))), 1)]
        same = np.array(expected) == np.arange(len(prompts))  # a last batch of one row
        assert (found == expected)[~same].all()


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize("loss", sorted(UNPAIRED))
def test_streams_and_resumed_runs(loss: str, lab_model: Path, tmp_path: Path) -> None:
    """A stream trains as the data set does, in that order; a resumed run goes the same way, its shift included."""
    rows = labelled(40)
    settings = {"loss_type": loss, "max_steps": 8}
    whole = trained(prefine, lab_model, rows, tmp_path / "a", save_strategy="steps", save_steps=5, **settings)
    streamed = trained(prefine, lab_model, Dataset.from_list(rows).to_iterable_dataset(), tmp_path / "b", **settings)
    for mine, other in zip(logged(streamed), logged(whole), strict=True):
        assert mine == pytest.approx(other, rel=1e-5, abs=1e-6)
    resumed = trained(prefine, lab_model, rows, tmp_path / "a", resume=str(tmp_path / "a" / "checkpoint-5"), **settings)
    assert logged(resumed)[-3:] == [pytest.approx(entry, rel=1e-5, abs=1e-6) for entry in logged(whole)[-3:]]
    assert resumed.shift == pytest.approx(whole.shift)
    assert (whole.shift[1] == 32) is (loss == "bco")


@pytest.mark.filterwarnings(QUIET)
def test_rows_of_ids_and_pairs(lab_model: Path, tmp_path: Path) -> None:
    """TRL's prepared columns; and preference pairs, of which both sides are taken."""
    rows = labelled(12)
    expected = trained(prefine, lab_model, rows, tmp_path / "a", max_steps=3)
    ids = [{k: group[k] for k in ("prompt_ids", "completion_ids", "label")} for group in expected.train_dataset]
    assert logged(trained(prefine, lab_model, ids, tmp_path / "b", max_steps=3)) == logged(expected)
    group = expected.train_dataset[1]
    assert group.labels == (WANTED, MISMATCHED)
    assert group["KL_completion_ids"] == expected.train_dataset[0]["completion_ids"]
    of_pairs = trained(prefine, lab_model, pairs(6), tmp_path / "c", max_steps=1)
    assert of_pairs.label_counts == (6, 6)
    records = [Pair("my printer is hot", "clean the fan", "what", 1), Labelled("my phone is slow", "clear the cache", True, 2)]
    assert trained(prefine, lab_model, Given(records), tmp_path / "d", max_steps=1).label_counts == (2, 1)


@pytest.mark.filterwarnings(QUIET)
def test_a_batch_that_is_no_number_leaves_the_shift(lab_model: Path, tmp_path: Path) -> None:
    from prefine.training.kto import KTOTrainer

    class Once(KTOTrainer):
        spoiled = False

        def _score(self, *given: Any) -> Any:
            found = super()._score(*given)
            if self.state.global_step == 1 and not self.spoiled:
                self.spoiled = True
                found.ratio_M.data.fill_(math.inf)
            return found

    args = prefine.KTOConfig(output_dir=str(tmp_path), loss_type="bco", max_steps=4, logging_steps=1, use_cpu=True, save_strategy="no")
    trainer = Once(str(lab_model), args=args, train_dataset=labelled(40))
    trainer.train()
    assert trainer.spoiled
    assert trainer.shift[1] == 3 * args.per_device_train_batch_size
    assert math.isfinite(trainer.shift[0])


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize("loss", ["kto", "bco"])
def test_known_optimum(loss: str, lab_model: Path, tmp_path: Path) -> None:
    """One prompt, two responses, wanted three times in four and one time in four.

    BCO's is where the logit of each is that of its share, log 3 and -log 3, whatever the shift: beta times the log-ratios differ by
    2 log 3. KTO saturates: what is wanted more often than not rises without end, the other falls.
    """
    prompt = [{"role": "user", "content": "my printer is hot"}]
    rows = []
    for answer, good in (("clean the fan", 3), ("restart the router", 1)):
        rows += [{"prompt": prompt, "completion": [{"role": "assistant", "content": answer}], "label": i < good} for i in range(4)]
    other = {"prompt": [{"role": "user", "content": "my phone is slow"}], "completion": rows[0]["completion"], "label": True}
    data = rows if loss == "bco" else [*rows, other]
    settings = {"loss_type": loss, "beta": 0.5, "per_device_train_batch_size": len(data), "max_steps": 300, "lr_scheduler_type": "constant"}
    trainer = trained(prefine, lab_model, data, tmp_path, **settings, learning_rate=3e-3, logging_steps=50)
    trainer.args.per_device_eval_batch_size = len(data)
    rewards = trainer.predict(Dataset.from_list([rows[0], rows[4]])).predictions
    gap = float(rewards[0] - rewards[1])
    if loss == "bco":
        assert gap == pytest.approx(2 * math.log(3), abs=0.15)
    else:
        assert gap > 6


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss_type": "sigmoid"}, "learns from pairs"),
        ({"loss_type": "ktoo"}, "does not exist; did you mean 'kto'"),
        ({"beta": 0.0}, "beta is 0.0; expected a number above 0"),
        ({"desirable_weight": -1.0}, "expected 0 or above"),
        ({"desirable_weight": 0.0, "undesirable_weight": 0.0}, "nothing would be learned"),
        ({"balance_labels": True, "desirable_weight": 2.0}, "would be ignored by balance_labels"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        prefine.KTOConfig(output_dir=str(tmp_path), **settings)
    assert told in str(caught.value)


def test_data_without_labels_is_refused(lab_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        trained(prefine, lab_model, [{"prompt": "a", "completion": "b"}], tmp_path)
    with pytest.warns(UserWarning, match="all 6 responses are labelled wanted"):
        trained(prefine, lab_model, labelled(6, 3, 3), tmp_path, max_steps=1)
