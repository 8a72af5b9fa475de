"""Splits a model's output into reasoning, answer and tool calls by the markers of its family."""
