"""What computes a bundle's answers: PyTorch or OpenVINO, on a CPU or a GPU."""

import sys

# OpenVINO's import sends an event with a client id to an analytics server, and keeps the id in the home folder. Where this package of
# its cannot be imported it takes a stub of its own that sends nothing. Whoever imports OpenVINO here has come through this line.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
