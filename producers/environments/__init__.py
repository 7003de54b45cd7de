"""Any Gymnasium environment as a task: events in words, spaces as a policy takes them, episodes."""
