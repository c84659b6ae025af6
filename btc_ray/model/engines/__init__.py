"""What computes a bundle's answers: PyTorch or OpenVINO, on a CPU or a GPU."""
