"""``python -m replica``, and the command `replica` itself."""

import os
import sys
from contextlib import suppress

from .cli import main


def run() -> None:
    """Run the command and end this process."""
    code = main()
    if code == 130:
        # Interrupted: threads may still be in compiled code, from which Python before 3.14 cannot
        # end them (it aborts instead).
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # missing or closed
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
