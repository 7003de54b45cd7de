"""How sums of money are written."""

from __future__ import annotations

import math

HIGHEST_PRICE = 1_000_000
"""US dollars for a million tokens that are taken for a price, and not for a slip."""

_CENT = 0.01


def dollars(usd: float) -> str:
    """US dollars for a person: cents, and of less than a cent two digits, never a rounded nothing."""
    if math.isnan(usd):
        return "–"
    if usd == 0:
        return "$0"
    if abs(usd) >= _CENT:
        return f"${usd:,.2f}" if abs(usd) >= 1 else f"${usd:.4f}".rstrip("0")
    return f"${usd:.{1 - math.floor(math.log10(abs(usd)))}f}"
