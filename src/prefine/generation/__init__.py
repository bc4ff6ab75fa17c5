"""Answers of models: the protocol of engines, and the engines that hold a model."""
