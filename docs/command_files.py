"""Write the man page and the shell completions from the argument parser: ``nox -s manual``.

The files are kept in the tree because building the package must not need the package.
"""

import os
import re
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from triosmtp.cli import command_parser

DOCS = Path(__file__).parent

SECTIONS = r""".SH EXIT STATUS
.TP
.B 0
success
.TP
.B 1
the answer is no: an option that is not set, an error that \fBtls check\fR found, a warning under \fBcheck --strict\fR,
an answer that differs in \fBpolicy replay\fR, a server that \fBprobe\fR did not reach or found without TLS
.TP
.B 2
the server's chain does not verify against \fBprobe --ca\fR,
or a certificate of it expires within \fB--expires-within\fR
.TP
.B 64
the command line is wrong
.TP
.B 69
the running server cannot be reached
.TP
.B 73
the folder that \fBexamples\fR was given cannot be written
.TP
.B 75
the server cannot start now, and may be able to later: an address in use, a file that is missing for the moment
.TP
.B 77
the running server refused a command
.TP
.B 78
the configuration cannot be used

.SH FILES
.TP
.I /etc/triosmtp/triosmtp.conf
the configuration that the systemd unit names
.TP
.I /run/triosmtp/control
the control socket that the systemd unit's configuration names

.SH SEE ALSO
https://triosmtp.readthedocs.io/
"""


def man_page() -> str:
    """Return the man page in roff."""
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # the page has no date of its own
    os.environ["COLUMNS"] = "80"  # argparse wraps usage lines to it
    parser = command_parser()
    parser.man_short_description = "SMTP listener with inbound TLS"  # type: ignore[attr-defined]
    title, _, rest = str(Manpage(parser)).partition("\n")
    assert title.startswith(".TH TRIOSMTP")
    page = '.TH TRIOSMTP "1" "" "triosmtp" "User Commands"\n' + rest.rstrip() + "\n\n" + SECTIONS
    return re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", page)  # for readers in any locale


def completion(shell: str) -> str:
    """Return the completion script for ``bash`` or ``zsh``."""
    return str(shtab.complete(command_parser(), shell=shell))


FILES = {
    DOCS / "man/triosmtp.1": man_page,
    DOCS / "completion/triosmtp.bash": lambda: completion("bash"),
    DOCS / "completion/_triosmtp": lambda: completion("zsh"),
}


def main() -> None:
    """Write all files."""
    for path, text in FILES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(), "utf-8")


if __name__ == "__main__":
    main()
