"""Uses of the annotation log: training models again, verification, evaluation, rewards of episodes."""
