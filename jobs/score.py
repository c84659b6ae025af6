"""`btc-ray score` for `ray job submit -- python jobs/score.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["score", *sys.argv[1:]]))
