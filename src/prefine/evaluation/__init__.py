"""Generate, judge, count: from two models to one sentence."""
