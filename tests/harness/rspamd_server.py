"""Debian's rspamd with rules of the test's own: no DNS, no Redis, no network beyond loopback."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from attrs import define
from mail_client import TIMEOUT, need

_CONF = """
options {{
  pidfile = "{folder}/pid";
  filters = "regexp";
  cache_file = "{folder}/symbols";
  history_file = "{folder}/history";
  tempdir = "{folder}";
  url_tld = "{folder}/tld";
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
  enable_test_patterns = true;
  explicit_modules = ["milter_headers", "settings", "force_actions"];
}}
logging {{ type = "console"; level = "notice"; }}
lua = "{folder}/rules.lua";
actions {{
  reject = 15; add_header = 6; rewrite_subject = 7; greylist = 4;
  discard = {{ flags = ["no_threshold"]; }} quarantine = {{ flags = ["no_threshold"]; }}
  odd = {{ flags = ["no_threshold"]; }}
}}
modules {{ path = "${{PLUGINSDIR}}"; }}
milter_headers {{ use = ["x-spamd-result"]; skip_local = false; skip_authenticated = false; }}
settings {{ lenient {{ id = "lenient"; apply {{ symbols_disabled = ["WORD"]; }} }} }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; {password} }}
"""
_RULES = """
local words = rspamd_config:add_map({type = 'regexp', url = 'FOLDER/words', description = 'words'})
rspamd_config:register_symbol({
  name = 'WORD', score = 20, callback = function(task)
    return words:get_key(task:get_header('Subject') or '') and true or false
  end})
-- What a test asks for stands in the header field X-Wants; all that rspamd was told goes into X-Told.
rspamd_config:register_symbol({
  name = 'TOLD', score = 0, flags = 'nostat,ignore_passthrough', priority = 10, callback = function(task)
    local function header(name) return tostring(task:get_request_header(name) or '-') end
    local names = {'TLS-Version', 'TLS-Client-Verified', 'TLS-Cert-Issuer', 'TLS-Client-Cert-Sans', 'User', 'MTA-Tag',
      'TLS-Client-Verify-Error'}
    local told = {}
    for _, name in ipairs(names) do told[#told + 1] = name .. '=' .. header(name) end
    local from, rcpt = task:get_from('smtp'), task:get_recipients('smtp')
    told[#told + 1] = 'from=' .. (from and from[1] and from[1].addr or '-')
    told[#told + 1] = 'rcpt=' .. #(rcpt or {})
    told[#told + 1] = 'ip=' .. tostring(task:get_from_ip()) .. ' helo=' .. tostring(task:get_helo())
    told[#told + 1] = 'size=' .. task:get_size() .. ' id=' .. tostring(task:get_queue_id())
    local wants = task:get_header('X-Wants') or ''
    local reply = {add_headers = {['X-Told'] = table.concat(told, '; ')}, remove_headers = {}}
    if wants:find('top') then reply.add_headers['X-Top'] = {value = 'first', order = 1} end
    if wants:find('twice') then reply.add_headers['X-Twice'] = {{value = 'a', order = 1}, {value = 'b'}} end
    if wants:find('remove') then reply.remove_headers['X-Gone'] = 0; reply.remove_headers['X-Last'] = -1 end
    if wants:find('rcpt') then reply.del_rcpt = {'you@example.com'}; reply.add_rcpt = {'other@example.com'} end
    if wants:find('foreign') then reply.add_rcpt = {'victim@elsewhere.example'} end
    task:set_milter_reply(reply)
    for _, action in ipairs({'soft reject', 'discard', 'quarantine', 'greylist', 'rewrite subject', 'odd'}) do
      local text = wants:find('text') and '4.5.6 Come back' or nil
      if wants:find(action) then task:set_pre_result(action, text, 'test') end
    end
    return true, 0
  end})
"""
_WORDS = "/lottery/i\n"


@define
class Rspamd:
    """Its folder and port, and its process while it runs."""

    folder: Path
    port: int
    process: "subprocess.Popen[str] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [need("rspamd"), "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", str(self.folder / "rspamd.conf")]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, text=True, start_new_session=True)
        guard = Timer(TIMEOUT, self.process.kill)
        guard.start()
        try:
            while self.process.poll() is None:
                try:
                    with socket.create_connection(("127.0.0.1", self.port)) as client:
                        client.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
                        if client.recv(100):
                            return
                except OSError:
                    continue
        finally:
            guard.cancel()
        raise AssertionError(f"rspamd has not started:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """Kill it and all of its processes."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(timeout=TIMEOUT)
        self.process = None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, number)


@contextmanager
def rspamd_server(password: str = "") -> Iterator[Rspamd]:
    """Run an rspamd until the block is left."""
    need("rspamd")
    if os.geteuid() != 0:
        pytest.skip("rspamd must be started by root")
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-rspamd-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        for name, text in (("rules.lua", _RULES), ("words", _WORDS), ("tld", "com\norg\nexample\n")):
            (folder / name).write_text(text.replace("FOLDER", str(folder)))
        secret = f'password = "{password}"; secure_ip = [];' if password else ""
        (folder / "rspamd.conf").write_text(_CONF.format(folder=folder, port=port, password=secret))
        shutil.chown(folder, "_rspamd")
        rspamd = Rspamd(folder, port)
        rspamd.start()
        try:
            yield rspamd
        finally:
            if rspamd.process is not None:
                rspamd.kill()
    finally:
        shutil.rmtree(folder)
