"""Benchmarks, and figures that later work must beat."""
