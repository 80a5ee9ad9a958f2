"""Benchmarks: every figure that is claimed, and the command that makes it."""
