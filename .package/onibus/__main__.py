"""``python -m onibus``: the command ``onibus``."""

from onibus.infra.cli.main import main

main()
