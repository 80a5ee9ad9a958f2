"""Replay of recorded datasets through the pipeline that runs live, with score and report."""

from agls.replay.read import read_dataset
from agls.replay.run import ReplaySummary, replay, replay_journal

__all__ = ["ReplaySummary", "read_dataset", "replay", "replay_journal"]
