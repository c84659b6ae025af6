"""`btc-ray crop` for `ray job submit -- python jobs/crop.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["crop", *sys.argv[1:]]))
