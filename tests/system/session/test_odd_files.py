"""Files that options name, if something else stands in their place: nothing waits for it, and no descriptor is left."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from triosmtp.auth import IdentityMap, PasswordFile
from triosmtp.auth.mock_credentials import _read as read_mock_key
from triosmtp.config import parse_config
from triosmtp.errors import TrioSMTPError
from triosmtp.recipients.recipient_file import RecipientFile
from triosmtp.server.policy_endpoint import read_token
from triosmtp.tls.pem import read_file

SETTINGS = parse_config('ESMTP_Listener { Listen ":25" { } }').base
READERS: dict[str, Callable[[Path], object]] = {
    "passwords": lambda path: PasswordFile(path).check(),
    "map of EXTERNAL": lambda path: IdentityMap(str(path)).check(),
    "recipients": lambda path: RecipientFile(path, fold=False).check(),
    "token": lambda path: read_token(evolve(SETTINGS, token_file=path), "token_file"),
    "certificate": lambda path: read_file("TLS_Certificate", path, {}),
    "key of mock credentials": read_mock_key,
}


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("reader", READERS)
def test_neither_a_folder_nor_a_pipe_nor_a_device_is_read(reader: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = descriptors()
    for path, error in (
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
    ):
        with pytest.raises((OSError, TrioSMTPError), match=error):
            READERS[reader](path)
        assert descriptors() == before
