"""The same jobs on a cluster: submitted to it, or written as Kubernetes manifests."""
