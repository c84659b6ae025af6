"""Ways to score a folder of images, each as its own documentation writes it; benchmarks.peers times them."""
