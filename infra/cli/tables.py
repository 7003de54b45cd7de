"""Tables that can be read at every width of the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onibus.infra.process.terminal import console, printable

if TYPE_CHECKING:
    from rich.console import Console

LEAST_TEXT = 24
"""Characters that a last column of long text needs at least; without room for them no table is drawn."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print ``rows`` side by side under ``columns``; if the terminal is too narrow, each as a block of lines.

    Only the last column is broken into lines. Off a terminal the table is as wide as it needs to be, unless
    ``COLUMNS`` says how wide.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
    out = console()
    beside = sum(widths[:-1]) + 3 * len(columns) + 1
    if not (out.is_terminal or "COLUMNS" in os.environ):
        out = console(width=beside + widths[-1])
    if out.width >= beside + min(widths[-1], LEAST_TEXT):
        _print_beside(out, columns, shown, title)
    else:
        _print_blocks(out, columns, shown, title)


def _print_beside(
    out: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None
) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        table.add_column(name, no_wrap=place < len(columns) - 1, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _print_blocks(
    out: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None
) -> None:
    from rich.table import Table

    if title is not None:
        out.print(title, style="italic")
    for row in rows:
        block = Table.grid(padding=(0, 2))
        block.add_column(style="bold", no_wrap=True)
        block.add_column(overflow="fold")
        for name, cell in zip(columns, row, strict=True):
            if cell:
                block.add_row(name, cell)
        out.print(block)
        out.print()
