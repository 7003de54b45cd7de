"""Names of captioners: what puts the events of a step into words; needs no environment."""

from __future__ import annotations

from onibus.infra.errors import OnibusError
from onibus.infra.plugins import is_plugin

MESSAGE = "message"
"""What the environment says by itself: NetHack's messages, or a registered task's ``info["caption"]``."""
MESSAGE_AND_CHANGES = "message-and-changes"
"""NetHack's messages, and what changed in the status lines."""

BUILT_IN = (MESSAGE, MESSAGE_AND_CHANGES)


def check_captioner(name: str) -> None:
    """Do nothing if ``name`` can be a captioner's: one of :data:`BUILT_IN`, or ``module:function``.

    Raises:
        OnibusError: it cannot.
    """
    if name not in BUILT_IN and not is_plugin(name):
        raise OnibusError(
            f"there is no captioner {name!r}; give {', '.join(BUILT_IN)}, or module:function for your own"
        )


def short_name(recorded: str) -> str:
    """The name of a captioner as records have it, without the version of the user's own."""
    return recorded.partition(" ")[0]
