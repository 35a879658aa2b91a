"""Files of recipients, and a configuration that names them."""

import os
from pathlib import Path

LINES = """
# comment
user@example.org
  Spaces@Example.ORG   # and a note
"quoted part"@example.org
"q*"@example.org
lists+*@example.org
müller@example.org
a#b@example.org
dots..in.a.row@example.org
user@bücher.example
@all.example
not an address
user@example.org OK
*@example.org
sales*@example.org
a+b+*@example.org
@-.-
"""


def write(path: Path, text: str, *, age: float = 10.0) -> None:
    path.write_text(text)
    moment = path.stat().st_mtime - age
    os.utime(path, (moment, moment))


def write_users(folder: Path) -> Path:
    path = folder / "recipients"
    write(path, LINES)
    return path


def stanza(users: Path, more: str = "", *, listen: str = "") -> str:
    return f"""
        Relay_Domains = ( "example.org" "bücher.example" "all.example" "other.example" )
        Known_Recipients = ( "file:{users}" ) {more}
        ESMTP_Listener {{ Listen ":25" {{ {listen} }} }}
    """
