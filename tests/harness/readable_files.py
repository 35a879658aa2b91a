"""Whether another user may read a file."""

import os

from life_server import Place


def readable(place: Place) -> None:
    os.chown(place.folder / "server.key", 0, 1)
    (place.folder / "server.key").chmod(0o640)
