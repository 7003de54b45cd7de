"""vLLM's server, its own virtual environment, and folders of models."""
