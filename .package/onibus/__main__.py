"""``python -m onibus``: the command ``onibus``."""

from onibus.infra.cli.entry import main

main()
