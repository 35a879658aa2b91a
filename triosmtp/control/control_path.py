"""The path of the control socket, for the server that creates it and the console that connects to it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from triosmtp.filesystem import is_visible, state_directory

if TYPE_CHECKING:
    from triosmtp.config import Config

__all__ = ["default_control_path", "find_control_path"]

_SERVICE_PATH: Final = Path("/run/triosmtp/control")
"""The path under ``RuntimeDirectory=triosmtp`` of a systemd unit: the operator's shell has no $RUNTIME_DIRECTORY."""


def default_control_path() -> Path:
    """Return the path of the socket if no configuration names one.

    ``$RUNTIME_DIRECTORY/control`` as systemd sets it (the first of a colon list), else
    ``$XDG_RUNTIME_DIR/triosmtp/control``, else ``control`` in the state folder.

    :raises RuntimeError: if none of them is set and the user has no home folder.
    """
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime:
        return Path(runtime).absolute() / "control"
    user = os.environ.get("XDG_RUNTIME_DIR", "")
    if user.startswith("/"):
        return Path(user) / "triosmtp" / "control"
    return state_directory() / "control"


def find_control_path(config: "Config | None" = None) -> Path:
    """Return the path that a console connects to: the first Control_Listener of ``config``, else the default path.

    If nothing is there, but a system service has a socket, return the socket of the service.

    :raises RuntimeError: as :func:`default_control_path` does.
    """
    if config is not None and config.control_listens:
        return Path(str(config.control_listens[0].address.path))  # type: ignore[union-attr]  # they are Unix sockets
    path = default_control_path()
    return _SERVICE_PATH if not is_visible(path) and is_visible(_SERVICE_PATH) else path
