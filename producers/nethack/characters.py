"""Characters, as NLE names them: role, race, alignment and gender, such as ``mon-hum-neu-mal``."""

from __future__ import annotations

from onibus.infra.errors import OnibusError

DEFAULT_CHARACTER = "mon-hum-neu-mal"
"""NLE's: a human monk."""

RANDOM_CHARACTER = "@"
"""Any role, which the episode's seeds choose."""

_ALIGNMENTS_OF_RACE = {
    "hum": ("law", "neu", "cha"), "elf": ("cha",), "dwa": ("law",), "gno": ("neu",), "orc": ("cha",),
}  # fmt: skip

_ROLES: dict[str, tuple[str, str]] = {
    "arc": ("hum dwa gno", "law neu"),
    "bar": ("hum orc", "neu cha"),
    "cav": ("hum dwa gno", "law neu"),
    "hea": ("hum gno", "neu"),
    "kni": ("hum", "law"),
    "mon": ("hum", "law neu cha"),
    "pri": ("hum elf", "law neu cha"),
    "rog": ("hum orc", "cha"),
    "ran": ("hum elf gno orc", "neu cha"),
    "sam": ("hum", "law"),
    "tou": ("hum", "neu"),
    "val": ("hum dwa", "law neu"),
    "wiz": ("hum elf gno orc", "neu cha"),
}
"""Races and alignments of each role (NetHack 3.6, Guidebook)."""


def parse_characters(given: str) -> tuple[str, ...]:
    """One character, or several with commas between them, as ``--character`` takes them.

    Raises:
        OnibusError: NetHack has no such character.
    """
    characters = tuple(part.strip() for part in given.split(","))
    for character in characters:
        if character != RANDOM_CHARACTER and character not in _EVERY_CHARACTER:
            raise OnibusError(f"--character: NetHack has no {character!r}; {_hint(character)}")
    return characters


def character_of(characters: tuple[str, ...], worker: int, environment: int) -> str:
    """The character of one environment: every worker deals them out in turn, beginning with another one."""
    return characters[(worker + environment) % len(characters)]


def _every_character() -> frozenset[str]:
    return frozenset(
        f"{role}-{race}-{alignment}-{gender}"
        for role, (races, alignments) in _ROLES.items()
        for race in races.split()
        for alignment in alignments.split()
        if alignment in _ALIGNMENTS_OF_RACE[race]
        for gender in (("fem",) if role == "val" else ("mal", "fem"))
    )


_EVERY_CHARACTER = _every_character()


def _hint(character: str) -> str:
    role = character.partition("-")[0]
    same = sorted(name for name in _EVERY_CHARACTER if name.startswith(f"{role}-"))
    if same:
        return f"give one of {', '.join(same)}"
    return f"give one such as {DEFAULT_CHARACTER}, or {RANDOM_CHARACTER} for a random one"
