"""`btc-ray evaluate` for `ray job submit -- python jobs/evaluate.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
