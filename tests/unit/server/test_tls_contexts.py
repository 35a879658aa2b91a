"""The TLS contexts of a configuration, and their files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tls_stanza import Material

from triosmtp import ConfigError
from triosmtp.testing import Authority, open_memory_server


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("break_it", "option", "reason"),
    [
        (lambda folder: (folder / "cert.key").unlink(), "TLS_Key", "does not exist"),
        (lambda folder: (folder / "cert.pem").write_text("junk"), "TLS_Certificate", "certificate"),
        (lambda folder: Authority.create().issue("x").write(folder, "cert.other"), "TLS_Key", "match"),
        (lambda folder: (folder / "clientca.bundle").write_text(""), "TLS_Client_CA", ""),
    ],
)
async def test_an_unusable_file_is_reported_with_its_position(
    tmp_path: Path, break_it: Callable[[Path], object], option: str, reason: str
) -> None:
    material = Material(tmp_path)
    break_it(tmp_path)
    text = material.conf()
    if (tmp_path / "cert.other.key").exists():
        text = text.replace("cert.key", "cert.other.key")
    with pytest.raises(ConfigError) as caught:
        async with open_memory_server(text):
            pass
    [problem] = caught.value.problems
    assert problem.message.startswith(option)
    assert reason.lower() in problem.message.lower()
    assert problem.position is not None
    assert option in problem.source


async def test_a_key_that_others_can_read_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    material = Material(tmp_path)
    (tmp_path / "cert.key").chmod(0o644)
    async with open_memory_server(material.conf()):
        pass
    [record] = [record for record in caplog.records if record.name == "triosmtp.server"]
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("<string>:6:15: TLS_Key: ")
    assert record.getMessage().endswith("can be read by every user")


async def test_a_key_of_several_contexts_causes_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    material = Material(tmp_path)
    (tmp_path / "cert.key").chmod(0o644)
    async with open_memory_server(material.conf('Peer "198.51.100.0/24" { TLS_Ciphers = "HIGH" }')) as server:
        assert len(server.service.tls_settings()) == 2
    told = [record for record in caplog.records if record.getMessage().endswith("can be read by every user")]
    assert len(told) == 1
