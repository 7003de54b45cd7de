"""Publishing captions and episodes without ever holding up the environment."""
