"""Tasks of one's own, with their specs, and a reward model's network; see ``infra/docs/extending.md``."""
