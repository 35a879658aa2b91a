"""Use an installed triosmtp as its first user would; `nox -s package` runs it in an empty environment."""

import email
import os
import smtplib
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

TRIOSMTP = Path(sysconfig.get_path("scripts")) / "triosmtp"


def check(condition: object, what: str) -> None:
    if not condition:
        sys.exit(f"smoke test failed: {what}")


def serve_and_send(folder: Path) -> None:
    environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
    conf = folder / "triosmtp.conf"
    conf.write_text(
        f'Relay_Domains = ( "example.org" ) Deliver_To = "maildir:{folder}/Maildir"\n'
        'ESMTP_Listener { Listen "127.0.0.1:0" { } }\n'
    )
    command = [str(TRIOSMTP), "serve", "-c", str(conf), "--control", str(folder / "control")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            port = int(line.rpartition(" ")[2])
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                client.sendmail("me@example.org", ["you@example.org"], "Subject: smoke\r\n\r\nHello.\r\n")
        finally:
            process.terminate()
        check(process.wait(60) == 0, "serve ended with an error")
    [message] = (folder / "Maildir/new").iterdir()
    check(email.message_from_bytes(message.read_bytes())["Subject"] == "smoke", "the message is another one")


def main() -> None:
    version = subprocess.run(
        [sys.executable, "-m", "triosmtp", "--version"], check=True, capture_output=True, text=True
    )
    check(version.stdout.startswith("triosmtp "), "no version")
    check(Path(sysconfig.get_path("data"), "share/man/man1/triosmtp.1").is_file(), "no man page")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([TRIOSMTP, "examples", folder / "examples"], check=True, stdout=subprocess.DEVNULL)
        check((folder / "examples/deploy/triosmtp.service").is_file(), "no unit file")
        check((folder / "examples/deploy/dashboard.json").is_file(), "no dashboard")
        serve_and_send(folder)
    print("smoke test passed")


if __name__ == "__main__":
    main()
