"""What rspamd needs before the server starts: httpx, and a file with a password."""

import subprocess
import sys
from pathlib import Path

import pytest

from triosmtp.config import parse_config
from triosmtp.daemon.config_warnings import config_warnings
from triosmtp.errors import ConfigError
from triosmtp.testing import open_memory_server

CONF = """
Policy = ( "filter:spam" )
Filter "spam" { Connect_To = "rspamd:http://127.0.0.1:1" SCOPE }
ESMTP_Listener { Listen ":25" { } }
"""


async def test_a_password_file_that_cannot_be_used_is_an_error_at_its_place(tmp_path: Path) -> None:
    config = parse_config(CONF.replace("SCOPE", f'Password_File = "{tmp_path}/none"'))
    with pytest.raises(ConfigError, match=r'3:\d+: .*"/.*/none": No such file or directory'):
        async with open_memory_server(config):
            pass


def test_check_says_how_to_install_httpx(tmp_path: Path) -> None:
    (tmp_path / "t.conf").write_text(CONF.replace("SCOPE", "") + 'Relay_Domains = ( "x.y" ) Deliver_To = "discard:"')
    code = "import sys; sys.modules['httpx'] = None; from triosmtp.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "check", "-c", str(tmp_path / "t.conf")]
    found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode != 0
    assert 'rspamd needs httpx: pip install "triosmtp[http]"' in found.stdout + found.stderr
    assert "t.conf:2:" in found.stdout + found.stderr


def test_check_warns_of_a_password_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hunter2\n")
    config = parse_config(CONF.replace("SCOPE", f'Password_File = "{path}"'))
    for mode, count in ((0o644, 1), (0o620, 1), (0o600, 0)):
        path.chmod(mode)
        found = [each.message for each in config_warnings(config) if "DANGER" in each.message]
        assert len(found) == count
        assert all(str(path) in each and "hunter2" not in each for each in found)
