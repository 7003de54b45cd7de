"""``onibus web``: the flow, runs, labels and episodes of a system on one site."""
