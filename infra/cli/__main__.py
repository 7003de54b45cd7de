"""``python -m infra.cli`` is the ``onibus`` command."""

from infra.cli.main import main

main()
