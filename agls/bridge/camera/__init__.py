"""Cameras: where a target stands as seen from one, and which ones to ask."""
