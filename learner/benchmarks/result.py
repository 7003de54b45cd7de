"""What a benchmark returns: figures with what they should reach, as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: the figure in ``unit``.
        unit: its unit; "ratio" for side-by-side comparisons.
        goal: what it should reach, in words; empty if it only informs.
        reached: whether it does; None without a goal.
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    reached: bool | None = None

    @classmethod
    def at_most(cls, name: str, value: float, unit: str, limit: float) -> Figure:
        """A figure that should not be above ``limit``."""
        return cls(name, value, unit, f"≤ {limit:g}", value <= limit)

    @classmethod
    def at_least(cls, name: str, value: float, unit: str, limit: float) -> Figure:
        """A figure that should not be below ``limit``."""
        return cls(name, value, unit, f"≥ {limit:g}", value >= limit)


def machine() -> str:
    """This machine in a line."""
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), model)
    return f"{os.cpu_count()} cores, {model}, {platform.system()}, Python {platform.python_version()}"


def show(console: Console, title: str, figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    table = Table("figure", Column("value", justify="right"), "unit", "goal", title=title, caption=machine())
    marks = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}
    for figure in figures:
        mark = marks[figure.reached]
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, f"{figure.goal} {mark}".strip())
    console.print(table)


def to_json(title: str, figures: Sequence[Figure]) -> dict[str, Any]:
    """The figures for a program to read."""
    return {"benchmark": title, "machine": machine(), "figures": [asdict(f) for f in figures]}
