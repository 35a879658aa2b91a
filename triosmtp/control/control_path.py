"""Where the control socket is, for the server that opens it and the console that looks for it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from triosmtp.state import is_visible, state_directory

if TYPE_CHECKING:
    from triosmtp.config import Config

__all__ = ["console_place", "default_place"]

_SERVICE: Final = Path("/run/triosmtp/control")
"""Where ``RuntimeDirectory=triosmtp`` of a systemd unit puts it: the operator's shell has no $RUNTIME_DIRECTORY."""


def default_place() -> Path:
    """Give the place of the socket that no configuration names.

    ``$RUNTIME_DIRECTORY/control`` as systemd sets it (the first of a colon list), else
    ``$XDG_RUNTIME_DIR/triosmtp/control``, else ``control`` in the state folder.

    :raises RuntimeError: where none of them is set and the user has no home folder.
    """
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given).absolute() / "control"
    user = os.environ.get("XDG_RUNTIME_DIR", "")
    if user.startswith("/"):
        return Path(user) / "triosmtp" / "control"
    return state_directory() / "control"


def console_place(config: "Config | None" = None) -> Path:
    """Give the place where a console looks: the first Control_Listener of ``config``, else the default place.

    Where there is nothing, but a system service has a socket, that one's.

    :raises RuntimeError: as :func:`default_place` does.
    """
    if config is not None and config.control_listens:
        return Path(str(config.control_listens[0].address.path))  # type: ignore[union-attr]  # they are Unix sockets
    place = default_place()
    return _SERVICE if not is_visible(place) and is_visible(_SERVICE) else place
