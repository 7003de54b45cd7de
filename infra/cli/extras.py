"""Which extras of onibus to install for a package that is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata

_EXTRAS_OF = {name: (name,) for name in ("annotate", "rollout", "learn", "broker")} | {
    "train-reward": ("train",),
    "labels": ("replay",),
    "replay": ("replay",),
    "report": ("learn", "report"),
    "sweep": ("learn", "report"),
    "evaluate": ("learn",),
    "compare": ("learn", "report"),
    "web": ("learn", "replay", "report"),
}
"""What each command needs; commands that are not listed need ``demo``, which is everything."""

_WITH_SAMPLE_FACTORY = frozenset({"learn", "demo"})
"""Installed from the lock, which overrides Sample Factory's requirements; pip alone would not."""

_REQUIREMENT = re.compile(r"""([\w.-]+) (?:\[([\w,-]+)\])? .*? extra \s*==\s* ["']([\w-]+)["']""", re.VERBOSE)


def advice(package: str, arguments: Sequence[str]) -> str:
    """The command that installs ``package``, imported by ``onibus`` with these arguments.

    It installs the extra of the command; if that does not include the package, also the extra that does.
    """
    chosen = next((_EXTRAS_OF[word] for word in arguments if word in _EXTRAS_OF), ("demo",))
    packages = _packages_by_extra()
    wanted = _normal(package)
    if not any(wanted in packages.get(extra, ()) for extra in chosen):
        having = [
            extra for extra, there in packages.items() if wanted in there and extra not in ("demo", "dev")
        ]
        chosen = (*chosen, *sorted(having, key=lambda extra: len(packages[extra]))[:1])
    if _WITH_SAMPLE_FACTORY.intersection(chosen):
        lock = "learn" if chosen == ("learn",) else "dev"
        return f"pip install --no-deps -r infra/requirements/{lock}.txt (in the repository)"
    return f"pip install 'onibus[{','.join(chosen)}]'"


def _packages_by_extra() -> dict[str, set[str]]:
    """Normalised names of packages by extra, extras within extras included; empty if not installed."""
    try:
        requirements = metadata.requires("onibus") or []
    except metadata.PackageNotFoundError:
        return {}
    direct: dict[str, set[str]] = {}
    within: dict[str, set[str]] = {}
    for requirement in requirements:
        if (found := _REQUIREMENT.match(requirement)) is not None:
            name, inner, extra = found.groups()
            direct.setdefault(extra, set()).add(_normal(name))
            if _normal(name) == "onibus" and inner:
                within.setdefault(extra, set()).update(inner.split(","))

    def packages(extra: str) -> set[str]:
        return direct.get(extra, set()).union(*(packages(other) for other in within.get(extra, ())))

    return {extra: packages(extra) for extra in direct}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
