"""Open acoustic gunshot location: from microphones on poles to a located shot at dispatch.

Read `agls.pipeline` first: it follows one gunshot from the microphone to the dispatcher.
"""

__version__ = "0.1.0"
