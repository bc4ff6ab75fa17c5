"""Preference losses: log-probs in, per-pair losses out. One visible table."""

from prefine.losses.pair_logps import PairLogps, implicit_rewards
from prefine.losses.table import LOSSES, Loss, LossOptions, check_losses, preference_loss

__all__ = ["LOSSES", "Loss", "LossOptions", "PairLogps", "check_losses", "implicit_rewards", "preference_loss"]
