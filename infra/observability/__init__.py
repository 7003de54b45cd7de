"""Prometheus metrics: declared, shared between processes, scraped."""
