"""The TLS files of an HTTP client: read again when they change, and kept if they cannot be used."""

import logging
from pathlib import Path

import pytest
import trio
import trio.testing

from triosmtp.http_client.tls_files import TLSFiles
from triosmtp.testing import Authority


def written(folder: Path) -> TLSFiles:
    authority = Authority.create()
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    authority.issue("client", dns=["client.example"]).write(folder, "client")
    return TLSFiles(folder / "ca.pem", folder / "client.pem", folder / "client.key")


async def test_files_are_read_once_and_again_when_they_change(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    files = written(tmp_path)
    first = await files.context()
    (tmp_path / "ca.pem").write_bytes(Authority.create("new").certificate_pem)
    assert await files.context() is first  # looked at a moment ago
    await trio.sleep(1)
    second = await files.context()
    assert second is not first
    assert "'new'" in repr(second.get_ca_certs())
    (tmp_path / "client.key").write_text("nothing")
    await trio.sleep(1)
    with caplog.at_level(logging.ERROR):
        assert await files.context() is second
        await trio.sleep(1)
        assert await files.context() is second
    [record] = caplog.records  # once
    assert "client.pem" in record.getMessage()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("ca.pem", None, "No such file or directory"),
        ("ca.pem", "nothing", "NO_CERTIFICATE_OR_CRL_FOUND"),
        ("client.pem", "nothing", r"(NO_START_LINE|.*PEM lib)"),
        ("client.key", None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    files = written(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf'"{tmp_path}/.*": {reason}'):
        files.load()


def test_an_encrypted_key_asks_nobody_for_a_password(tmp_path: Path) -> None:
    files = written(tmp_path)
    (tmp_path / "client.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgPTqZKzXn8ZAICCAAw\n"
        "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEEw=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(ValueError, match=r"client\.key"):
        files.load()
