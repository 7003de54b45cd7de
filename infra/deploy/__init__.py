"""Deployment: images, compose, Kubernetes, Prometheus, and the dashboard made from the metrics' table."""
