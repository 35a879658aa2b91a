"""Events and lines for tests of Momentum's logs."""

from pathlib import Path

import triosmtp
from triosmtp.event import AuthAttempted, SessionInfo

CONF = """
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
Log "mainlog" {{ Path = "{folder}/mainlog" }}
Log "rejectlog" {{ Path = "{folder}/rejectlog" }}
Log "acctlog" {{ Path = "{folder}/acctlog" }}
Pathway_Group "partners" {{ Pathway "inbound" {{ }} }}
ESMTP_Listener {{
  Pathway = "inbound"
  Context = [ where = "a,b]" ]
  Listen "127.0.0.1:0" {{ {more} }}
}}
"""


def config(folder: Path, more: str = "") -> triosmtp.Config:
    return triosmtp.parse_config(CONF.format(folder=folder, more=more))


def lines(path: Path) -> list[str]:
    text = path.read_bytes().decode()
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


def attempt(user: str = "u") -> AuthAttempted:
    return AuthAttempted(
        session=SessionInfo(id="s", peer="192.0.2.1:2", listener=":25"), mechanism="PLAIN", user=user, succeeded=True
    )
