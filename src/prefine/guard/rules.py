"""The one table of rules. Docs, help and reports are drawn from it."""

from prefine.guard import probe_rules, sampling_rules, start_rules, training_rules
from prefine.guard.rule import Rule

RULES: tuple[Rule, ...] = (*start_rules.RULES, *training_rules.RULES, *sampling_rules.RULES, *probe_rules.RULES)
