"""The two ways AGLS refuses: your input is wrong, or a message from the network is.

`InputError` is for people: it becomes one sentence on stderr and exit code 2. `MessageError` is for
machines: whoever reads the network catches it, counts it by its `reason` and drops the message.
Saying "no" about a sound (no location, not a gunshot) is neither: it is a `messages.Rejection`.
"""


class InputError(Exception):
    """Refuse what a person gave: a file, a configuration, an argument.

    The text is one sentence that says what was wrong, where, the value, and what would be accepted.
    """


class MessageError(Exception):
    """Refuse bytes that came from the network.

    Parameters
    ----------
    reason : str
        Short stable name by which refusals are counted, such as ``"not_json"``.
    detail : str
        What was wrong, for a log line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
