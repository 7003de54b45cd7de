"""Examples of tasks of one's own, with their specs; see ``infra/docs/extending.md``."""
