"""`btc-ray experiments` for `ray job submit -- python jobs/experiments.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["experiments", *sys.argv[1:]]))
