"""``python -m szal``: the command line."""

import sys

from szal.cli import main

if __name__ == "__main__":
    sys.exit(main())
