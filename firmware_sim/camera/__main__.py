"""Play a simulated ONVIF camera: `python -m firmware_sim.camera [CAMERA.toml] --port 8000 --fault frozen_status`."""

from __future__ import annotations

import sys

from agls.errors import InputError
from firmware_sim.camera.command import add_arguments, run


def main() -> int:
    """Run the command.

    Returns
    -------
    int
        Exit code: 0 done, 2 bad input, 130 interrupted.
    """
    import argparse

    parser = argparse.ArgumentParser(prog="python -m firmware_sim.camera", description="Play an ONVIF camera")
    add_arguments(parser)
    try:
        return run(parser.parse_args())
    except InputError as error:
        print(f"firmware_sim.camera: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
