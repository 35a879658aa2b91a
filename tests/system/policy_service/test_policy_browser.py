"""No web page can connect, even with the token; a program that always sends Origin can, with Authorization."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import websocket  # it comes with selenium
from chromium import browser
from policy_server import ADMIN, TOKEN, Service
from selenium import webdriver

PROTOCOL = "policy.v1.triosmtp"
INITIALIZE = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"name": "x"}})

PAGE = """<!DOCTYPE html><title>tries</title><script>
// Resolves to "open" or "closed": more than that a page is not told.
function attempt(url, protocols) {
  return new Promise(resolve => {
    try {
      const socket = new WebSocket(url, protocols)
      socket.onopen = () => { resolve("open"); socket.close() }
      socket.onerror = () => resolve("closed")
    } catch (error) { resolve("not tried: " + error.name) }
  })
}
async function attempts(port, token) {
  const url = `ws://127.0.0.1:${port}/`, protocol = "policy.v1.triosmtp"
  document.cookie = `token=${token}; path=/`
  document.cookie = `Authorization=Bearer ${token}; path=/`
  await fetch(`http://127.0.0.1:${port}/`, {headers: {Authorization: `Bearer ${token}`}}).catch(() => 0)
  await fetch(`http://127.0.0.1:${port}/`, {mode: "no-cors", credentials: "include"}).catch(() => 0)
  const found = {
    plain: await attempt(url, protocol),
    "token in the URL": await attempt(`${url}?token=${token}&access_token=${token}`, protocol),
    "name and password in the URL": await attempt(`ws://x:${token}@127.0.0.1:${port}/`, protocol),
    "token as a subprotocol": await attempt(url, [protocol, token, `bearer.${token}`]),
  }
  const source = `${attempt}; onmessage = async e => postMessage(await attempt(e.data, "${protocol}"))`
  const worker = new Worker(URL.createObjectURL(new Blob([source])))
  found["a worker"] = await new Promise(resolve => {
    worker.onmessage = event => resolve(event.data)
    worker.postMessage(url)
  })
  const frame = document.createElement("iframe")
  frame.sandbox = "allow-scripts"
  const inside = `${attempt}; attempt("${url}", "${protocol}").then(x => parent.postMessage(x, "*"))`
  frame.srcdoc = "<script>" + inside + "</" + "script>"
  const told = new Promise(resolve => { onmessage = event => resolve(event.data) })
  document.body.append(frame)
  found["a sandbox, whose Origin is null"] = await told
  return found
}
</script><body></body>"""


class Site(BaseHTTPRequestHandler):
    """Serves the page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass


@contextmanager
def web_site() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def attempts(driver: webdriver.Chrome, port: int, token: str) -> dict[str, str]:
    script = "const done = arguments[2]; attempts(arguments[0], arguments[1]).then(done, e => done(String(e)))"
    driver.set_script_timeout(60)
    found = driver.execute_async_script(script, port, token)
    assert isinstance(found, dict), found
    return found


def test_no_web_page_comes_in(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.serving() as program, web_site() as site, browser(tmp_path) as driver:
        driver.get(f"http://127.0.0.1:{site}/")
        for token in (TOKEN, ADMIN):
            found = attempts(driver, service.policy_port, token)
            assert set(found.values()) == {"closed"}, found
            assert len(found) == 6
        assert program.log.count("403 browsers are not served") >= 12
        assert "policy-client-connected" not in program.log
        assert TOKEN not in program.log
        # What a page cannot do, a debugger can: so its websockets work, and the header field alone is missing.
        driver.execute_cdp_cmd("Network.enable", {})
        headers = {"headers": {"Authorization": f"Bearer {TOKEN}"}}
        driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)
        found = attempts(driver, service.policy_port, TOKEN)
        assert found["plain"] == "open", found


def speak(**where: Any) -> dict[str, Any]:
    """Introduce a client with a program that always sends Origin."""
    client = websocket.create_connection(subprotocols=[PROTOCOL], timeout=20, **where)
    try:
        client.send(INITIALIZE)
        answer = json.loads(client.recv())
        assert isinstance(answer, dict)
        return answer
    finally:
        client.close()


def test_a_program_that_always_sends_origin(tmp_path: Path) -> None:
    listener = 'TLS_Certificate = "server.pem" TLS_Key = "server.key" TLS_Client_CA = "ca.pem"'
    bearer = [f"Authorization: Bearer {TOKEN}"]
    service = Service(tmp_path, listener=listener)
    with service.serving() as program:
        url = f"wss://localhost:{service.policy_port}/"
        tls = ssl.create_default_context(cafile=tmp_path / "authority.pem")
        assert speak(url=url, header=bearer, sslopt={"context": tls})["result"]["protocol"] == PROTOCOL
        tls.load_cert_chain(tmp_path / "good.pem", tmp_path / "good.key")
        assert "result" in speak(url=url, header=bearer, sslopt={"context": tls})
        assert "result" in speak(url=url, suppress_origin=True, sslopt={"context": tls})
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            speak(url=url, sslopt={"context": tls})  # the certificate is a browser's too
        for header in ([], ["Authorization: Bearer wrong"], [f"Authorization: Basic {TOKEN}"]):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(tmp_path / "policy.sock"))
                with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
                    speak(url="ws://localhost/", socket=sock, header=header)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "policy.sock"))
            assert "result" in speak(url="ws://localhost/", socket=sock, header=bearer)
        assert program.log.count("policy-client-connected") == 4
