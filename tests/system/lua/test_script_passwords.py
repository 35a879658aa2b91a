"""Passwords that scripts check: what is no answer, and schemes that no script answers."""

import base64
from pathlib import Path

import pytest
from memory_dialogue import conf, hello

from triosmtp import ConfigError
from triosmtp.config import load_config
from triosmtp.testing import open_memory_server

SCRIPT = """
require("msys.core")
local mod, auth = {{}}, {{}}
{function}
function mod:init() msys.registerAuth("ours", auth) return true end
msys.registerModule("auth", mod)
"""
OPTIONS = """
SMTP_Extensions = ( "AUTH PLAIN" )
Allow_Plaintext_Auth = true
Auth_Failure_Delay = 0.001
AuthPlainParameters = [ uri = "{scheme}://users" ]
"""


def written(folder: Path, function: str, scheme: str = "ours") -> Path:
    (folder / "auth.lua").write_text(SCRIPT.format(function=function))
    stanza = 'scriptlet "scriptlet" { script "auth" { source = "auth" } }'
    (folder / "main.conf").write_text(stanza + conf(OPTIONS.format(scheme=scheme)))
    return folder / "main.conf"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("", "has no function authenticate"),
        ("function auth:authenticate() return nil end", "the result is none of EC_AUTH_OK"),
        ("function auth:authenticate() return true end", "the result is none of EC_AUTH_OK"),
        ("function auth:authenticate() return 3 end", "the result is none of EC_AUTH_OK"),
        ("function auth:authenticate() return 0.5 end", "the result is none of EC_AUTH_OK"),
        ("function auth:authenticate() while true do end end", "too many instructions"),
        ("setmetatable(auth, { __index = function() while true do end end })", "too many instructions"),
        ("setmetatable(auth, { __index = function(_, name) error('no ' .. name) end })", "no authenticate"),
    ],
)
async def test_what_is_no_answer_is_a_temporary_failure(
    function: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_memory_server(load_config(written(tmp_path, function))) as server:
        client = await hello(server)
        response = base64.b64encode(b"\0joe\0secret").decode()
        assert (await client.command(f"AUTH PLAIN {response}")).code == 454
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
    assert reason in caplog.text
    assert "secret" not in caplog.text


async def test_a_scheme_that_no_script_answers_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "", "other"))
    with pytest.raises(ConfigError, match="AuthPlainParameters: other:// is answered by no script"):
        async with open_memory_server(config):
            pass


async def test_a_scheme_of_momentum_that_no_script_answers_is_not_offered(tmp_path: Path) -> None:
    async with open_memory_server(load_config(written(tmp_path, "", "ac_auth"))) as server:
        client = server.connect()
        await client.read()
        assert not any(line.startswith("AUTH") for line in (await client.command("EHLO a.example")).lines)
