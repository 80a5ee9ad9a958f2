"""Run ``python -m agls``."""

import sys

from agls.cli import main

if __name__ == "__main__":
    sys.exit(main())
