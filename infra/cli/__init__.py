"""The ``onibus`` command: one module per sub-command; each imports its component only when it runs."""
