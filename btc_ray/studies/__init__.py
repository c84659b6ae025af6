"""DICOM and NIfTI as archives have them: whose a slice is, which series count and why, order and plane of slices. Never pixels."""
