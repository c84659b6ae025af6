"""`btc-ray doctor` for `ray job submit -- python jobs/doctor.py …`: the same flags, the same exit codes."""

import sys

from btc_ray.cli import main

sys.exit(main(["doctor", *sys.argv[1:]]))
