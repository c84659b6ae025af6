"""The end report of a run."""
