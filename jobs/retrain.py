"""`btc-ray retrain` for `ray job submit -- python jobs/retrain.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["retrain", *sys.argv[1:]]))
