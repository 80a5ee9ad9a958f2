"""Peers to compare with: each in an environment of its own, spoken to through files."""
