"""`btc-ray audit`."""

from btc_ray.commands.audit.audit import audit

__all__ = ["audit"]
