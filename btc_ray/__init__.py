"""Batch scoring and retraining of a brain-tumour MRI classifier on Ray. Research use only; not a medical device."""

__version__ = "0.1.0"

NOT_FOR_DIAGNOSIS = "Research use only. Not a medical device; not for diagnostic use."
