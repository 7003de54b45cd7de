"""NLE tasks and environments, captioners, the caption publisher, the episode recorder, stand-alone rollouts."""
