"""Finding what will hurt in preference data, before it is trained on. Imports no torch."""
