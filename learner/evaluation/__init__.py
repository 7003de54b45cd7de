"""`onibus evaluate`: what a checkpoint does in games that no training has played, with intervals."""
