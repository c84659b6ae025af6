"""`btc-ray audit` for `ray job submit -- python jobs/audit.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["audit", *sys.argv[1:]]))
