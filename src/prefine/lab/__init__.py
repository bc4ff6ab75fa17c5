"""The offline laboratory: a tiny language, a tiny model, an exact judge. Small enough for a laptop."""
