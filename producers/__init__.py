"""NLE tasks, environments, captioners, the caption publisher, episode recorder, stand-alone rollouts."""
