"""``python -m replica``: the same as the command `replica`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
