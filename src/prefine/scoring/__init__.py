"""Model and pack to log-probs; loading, adapters, the reference, the proof of sharing."""
