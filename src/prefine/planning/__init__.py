"""What a run will need, before its weights are loaded: memory, operations, time."""
