"""``python -m benchmarks``: measure szal, floors and peers in one run."""

import signal
import sys

from benchmarks.command import main

if __name__ == "__main__":
    # End as Ctrl-C does: nothing else would end subjects that are stopped until their turn comes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
