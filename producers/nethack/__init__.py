"""NetHack as an environment: tasks, captions, episodes and their exact replay."""
