"""`btc-ray review` for `ray job submit -- python jobs/review.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["review", *sys.argv[1:]]))
