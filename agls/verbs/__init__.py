"""Commands of the hub and of the laboratory that are more than a call; `agls.cli` names them.

As in `agls.cli`, what only a hub or a laboratory has installed is imported by `run`, so that any machine can be asked
what a command takes.
"""
