"""The sensor node: capture, sample clock, onsets, and the shell that keeps them running on a pole."""
