"""What is asked of a language model: specification files, prompts, and how answers are read."""
