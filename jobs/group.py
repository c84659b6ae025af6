"""`btc-ray group` for `ray job submit -- python jobs/group.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["group", *sys.argv[1:]]))
