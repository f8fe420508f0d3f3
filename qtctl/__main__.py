"""``python -m qtctl`` is the command line."""

import sys

from qtctl.cli import main

if __name__ == "__main__":
    sys.exit(main())
