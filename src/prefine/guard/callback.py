"""The callback that applies the rules to a trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from prefine.errors import ConfigError, ModelError, PrefineError, nearest
from prefine.guard.facts import facts_of
from prefine.guard.history import Facts
from prefine.guard.probe import Probe
from prefine.guard.probe_rules import RULES as PROBE_RULES
from prefine.guard.rule import ACTIONS, MODES, Finding
from prefine.guard.snapshot import Snapshots
from prefine.guard.watch import Watch
from prefine.runs import read_json, write_json

PROBE = "probe_base.json"
"""The base's responses to the probe, in the run's folder."""
LOOKS = 4
"""Parts a run is in, between which the probe looks, where it is not said."""
SNAPSHOTS = 10
"""Parts a run is in, between which weights are kept to go back to."""
MOST_ROLLBACKS = 3
NLL_WEIGHT = 0.2
STOPPED = "stopped"
"""How what was done begins where the run was ended by it."""
SKIPPED = 3
"""Skipped updates in a row that are looked at at once, rather than with the next log."""


class GuardCallback(TrainerCallback):  # type: ignore[misc]
    """Watches a trainer by the rules of :data:`prefine.guard.RULES`, says what they find, and does something about it if asked to.

    ``findings`` holds them in order, each with what was done.

    Args:
        trainer: the trainer it is added to, one of Prefine's where ``mode`` is act.
        mode: the strongest thing it may do: ``note`` (keep findings), ``warn`` (say them too), ``act`` (also lower the learning rate, go
            back to the last good weights, add the chosen responses' NLL, stop), ``off``.
        facts: what is known of the run beside what the trainer tells.
        probe: prompts that are responded to before training and every ``probe_every`` steps (unset: a quarter of the run).
        say: takes a sentence; unset: a warning. keep: takes an event's name and its values.
        rows: what was logged before, of a run that is resumed, with its events.

    Raises:
        ConfigError: an unknown mode, or acting on a trainer that is not Prefine's.
    """

    def __init__(
        self,
        trainer: Any,
        mode: str = "warn",
        facts: Facts | None = None,
        probe: Probe | None = None,
        probe_every: int | None = None,
        say: Callable[[str], None] | None = None,
        keep: Callable[..., None] | None = None,
        rows: Sequence[Mapping[str, Any]] = (),
        events: Sequence[Mapping[str, Any]] = (),
        folder: Path | None = None,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"guard is {mode!r}; expected one of {', '.join(MODES)}{nearest(mode, MODES)}")
        if mode == "act" and not hasattr(trainer, "scorer"):
            raise ConfigError(f"guard act changes what Prefine's trainers hold; {type(trainer).__name__} is none: give warn")
        self.trainer, self.mode = trainer, mode
        self.known = facts or Facts()
        self.probe, self.probe_every = probe, probe_every
        self.say = say or (lambda text: warnings.warn(text, stacklevel=2))
        self.keep = keep or (lambda kind, **what: None)
        self.rows, self.events = rows, events
        self.folder = folder or Path(trainer.args.output_dir)
        self.findings: list[tuple[Finding, str]] = []
        self.snapshots = Snapshots(self.folder / "guard")
        self.stopped = ""
        self._base: Any = None
        self._rollbacks = 0
        self._lowered = 1.0
        self._started = False
        self._last_found = self._probed_well = 0

    # ---- what transformers calls

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at what is known before the first step; respond to the probe.

        Raises:
            ModelError: nothing would be trained.
        """
        if self.mode == "off":
            return
        if self.mode == "act" and (args.world_size > 1 or getattr(args, "zero_stage", 0)):
            self.mode = "warn"
            self.say("guard: with several processes or DeepSpeed it warns, and does not act")
        self.watch = Watch(
            facts_of(self.trainer, state.max_steps, self.known), [r for r in self.rows if r.get("step", 0) <= state.global_step]
        )
        self._redo(state.global_step)
        for finding in self.watch.start():
            if finding.rule == "nothing-trained":
                raise ModelError(f"{finding.text}; {finding.advice}")
            self._handle(finding, control)
        if self.probe is not None and state.is_world_process_zero:
            self._answer_before(state, kwargs.get("model"))
        if self.mode == "act" and not (state.global_step and "start" in self.snapshots.steps):  # of a run that is resumed they are there
            self.snapshots.keep(self.trainer, "start")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Apply the rules to what was logged."""
        if self.mode == "off" or not logs or "train_runtime" in logs or not state.is_world_process_zero:
            return
        gap, loss = getattr(self.trainer, "start_gap", None), getattr(self.trainer, "first_loss", None)
        if (gap, loss) != (self.watch.facts.start_gap, self.watch.facts.start_loss) and not self._started:
            self._started = True
            self.watch.facts = replace(self.watch.facts, start_gap=gap, start_loss=loss)
            self.keep("guard_facts", **asdict(self.watch.facts))
            self._take(self.watch.start(), control)
        self._take(self.watch.add({"step": state.global_step, **logs}), control)
        if self.mode == "act" and "eval_loss" in logs and logs["eval_loss"] <= min(self._of("eval_loss")):
            self.snapshots.keep(self.trainer, "best")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Respond to the probe where it is time; keep weights where nothing is wrong."""
        if self.mode == "off" or not state.is_world_process_zero:
            return
        if getattr(self.trainer, "skipped_in_a_row", 0) == SKIPPED:
            self._take(self.watch.add({"step": state.global_step, "skipped_updates": SKIPPED}), control)
        every = self.probe_every or max(1, state.max_steps // LOOKS)
        if self._base is not None and state.global_step % every == 0 and state.global_step < state.max_steps:
            self._look(state, control, model)
        if self.mode == "act" and state.global_step % max(1, state.max_steps // SNAPSHOTS) == 0 and self._is_clean(state.global_step):
            self.snapshots.keep(self.trainer)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What was kept to go back to is not needed any more, unless the run was interrupted."""
        if self.mode == "act" and (self.stopped or state.global_step >= state.max_steps):
            self.snapshots.discard()

    # ---- findings

    def _of(self, name: str) -> list[float]:
        return [float(r[name]) for r in self.watch.rows if r.get(name) is not None]

    def _take(self, findings: Sequence[Finding], control: Any) -> None:
        """All are told; the first that is acted upon decides what is done, and the rest is looked at anew after it."""
        acted = False
        for finding in findings:
            acted = self._handle(finding, control, may_act=not acted) or acted

    def _handle(self, finding: Finding, control: Any, may_act: bool = True) -> bool:
        if finding.severity != "note":
            self._last_found = finding.step
        acts = may_act and self.mode == "act" and finding.severity == "act" and bool(finding.action) and not self.stopped
        done = self._act(finding, control) if acts else ""
        self.findings.append((finding, done))
        self.keep("guard", **finding.summary(), done=done)
        if self.mode != "note" and finding.severity != "note":
            would = (
                f" [--guard act: {ACTIONS[finding.action]}]" if self.mode == "warn" and finding.severity == "act" and finding.action else ""
            )
            self.say(f"warning: {finding.sentence}{would}{f' -- {done}' if done else ''}")
        return bool(done)

    def _is_clean(self, step: int) -> bool:
        """Whether nothing was found for a tenth of the run."""
        return not self._last_found or step - self._last_found >= max(1, self.trainer.state.max_steps // SNAPSHOTS)

    # ---- actions

    def _act(self, finding: Finding, control: Any) -> str:
        action: str = finding.action
        step = self.trainer.state.global_step
        if action == "add nll" and not self._can_add_nll():
            action = "lower"
        if action == "roll back" and self._rollbacks >= MOST_ROLLBACKS:
            action = "stop"
        if action == "roll back":
            back = self.snapshots.back_to(self.trainer, self._well_until(finding))
            self._lower(self._factor())
            self._rollbacks += 1
            done = f"went back to the weights of step {back}, and lowered the learning rate to {self._rate():.3g}"
        elif action == "lower":
            self._lower()
            done = f"halved the learning rate to {self._rate():.3g}"
        elif action == "add nll":
            self._add_nll()
            done = f"added the chosen responses' NLL with weight {NLL_WEIGHT:g}"
        else:
            back = self.snapshots.back_to(self.trainer, self._well_until(finding), best=True)
            control.should_training_stop = control.should_save = True  # so that resuming finds the run ended
            self.stopped = f"stopped at step {step} with the weights of step {back}: {finding.text}"
            done = f"{STOPPED}, with the weights of step {back}"
        self.watch.changed()
        self.trainer.skipped_in_a_row = 0
        return done

    def ended_at(self) -> tuple[int, str] | None:
        """Where and why it ended a run that is resumed, if acting is still wanted."""
        ends = [e for e in self.events if e.get("event") == "guard" and str(e.get("done") or "").startswith(STOPPED)]
        return (int(ends[-1]["step"]), str(ends[-1]["text"])) if ends and self.mode == "act" else None

    def _redo(self, step: int) -> None:
        """A resumed run is as it was left: the schedule's rates are in its checkpoint, what was added to the loss is not."""
        for event in self.events:
            if event.get("event") == "guard" and event.get("done") and event.get("step", 0) <= step:
                self.watch.changed()
                self._rollbacks += event["done"].startswith("went back")
                if event["done"].startswith("added") and self._can_add_nll():
                    self._add_nll()

    def _well_until(self, finding: Finding) -> int:
        """The last step of which it is known that nothing was wrong: a rule needs three logs, and a probe sees what is old already.

        From the second step back on it is the first: what was kept since may have been harmed.
        """
        if finding.rule == "not-finite":  # such updates are skipped: the weights are those before
            return finding.step - SKIPPED
        if self._rollbacks and finding.action == "roll back":
            return 0
        if finding.rule in {rule.name for rule in PROBE_RULES}:
            return self._probed_well
        return finding.step - 3 * max(1, int(self.trainer.state.logging_steps))

    def _factor(self) -> float:
        """Half, the first time; a fifth later; in any case to no more than what is usual."""
        factor, usual = (0.2 if self._rollbacks else 0.5), self.watch.facts.usual_learning_rate
        peak = float(self.trainer.args.learning_rate) * self._lowered
        return min(factor, usual[1] / peak) if usual is not None and peak > 0 else factor

    def _rate(self) -> float:
        return max(float(group["lr"]) for group in self.trainer.optimizer.param_groups)

    def _lower(self, factor: float = 0.5) -> None:
        self._lowered *= factor
        schedule = getattr(self.trainer.lr_scheduler, "scheduler", self.trainer.lr_scheduler)
        if hasattr(schedule, "base_lrs"):
            schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]
        last = schedule.get_last_lr() if hasattr(schedule, "get_last_lr") else None
        for place, group in enumerate(self.trainer.optimizer.param_groups):
            now = last[place] if last is not None else group["lr"]
            group["lr"] = now * factor
            if "initial_lr" in group:
                group["initial_lr"] = schedule.base_lrs[place] if hasattr(schedule, "base_lrs") else group["initial_lr"] * factor
        if last is not None:
            schedule._last_lr = [group["lr"] for group in self.trainer.optimizer.param_groups]

    def _can_add_nll(self) -> bool:
        losses = getattr(self.trainer.args, "loss_type", None)
        return isinstance(losses, list) and "sft" not in losses and hasattr(self.trainer, "coupled")

    def _add_nll(self) -> None:
        args = self.trainer.args
        args.loss_type, args.loss_weights = [*args.loss_type, "sft"], [*(args.loss_weights or [1.0] * len(args.loss_type)), NLL_WEIGHT]
        self.trainer.coupled = True

    # ---- the probe

    def _answer_before(self, state: Any, model: Any) -> None:
        assert self.probe is not None
        kept = self.folder / PROBE
        if state.global_step and kept.exists():
            self._base = self.probe.file("base", read_json(kept))
        elif not state.global_step:
            self._base = self.probe.respond(model, self.trainer.processing_class, "base")
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, self.probe.texts(self._base))

    def _look(self, state: Any, control: Any, model: Any) -> None:
        assert self.probe is not None
        try:
            found = self.probe.signs(self._base, self.probe.respond(model, self.trainer.processing_class, "tuned"))
        except PrefineError as error:  # a judge that fails costs a look, not the training
            self.keep("probe_failed", step=state.global_step, why=str(error))
            return
        row = {"step": state.global_step, **found}
        self.keep("probe", **row)
        new = self.watch.add(row)
        if not any(f.severity != "note" for f in new):
            self._probed_well = state.global_step
        self._take(new, control)
