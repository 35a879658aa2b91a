"""Real mail programs that authenticate with a user and a password, or with a certificate."""

import smtplib
import subprocess

from attrs import frozen
from auth_site import PASSWORD, USER, Site


@frozen
class Errand:
    site: Site
    mechanism: str
    implicit: bool
    password: str = PASSWORD

    @property
    def port(self) -> int:
        return self.site.implicit if self.implicit else self.site.starttls

    @property
    def host(self) -> str:
        return "127.0.0.2" if self.implicit else "127.0.0.1"

    @property
    def ca(self) -> str:
        return str(self.site.folder / "ca.pem")


def run(command: list[str], text: str = "Subject: x\n\nx\n") -> bool:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    print(done.stdout, done.stderr)
    return done.returncode == 0


def by_smtplib(errand: Errand) -> bool:
    context = errand.site.context()
    smtp = (
        smtplib.SMTP_SSL(errand.host, errand.port, context=context, timeout=30)
        if errand.implicit
        else smtplib.SMTP(errand.host, errand.port, timeout=30)
    )
    with smtp:
        if not errand.implicit:
            smtp.starttls(context=context)
        smtp.ehlo()
        smtp.user, smtp.password = USER, errand.password
        how = getattr(smtp, f"auth_{errand.mechanism.lower().replace('-', '_')}")
        try:
            smtp.auth(errand.mechanism, how)
        except smtplib.SMTPAuthenticationError:
            return False
        smtp.sendmail("a@example.org", ["b@elsewhere.example"], "Subject: x\r\n\r\n")
    return True


def by_curl(errand: Errand) -> bool:
    scheme = "smtps" if errand.implicit else "smtp"
    command = ["curl", "-sS", "--ssl-reqd", "--crlf", "--cacert", errand.ca, "--upload-file", "-"]
    command += ["--user", f"{USER}:{errand.password}", "--login-options", f"AUTH={errand.mechanism}"]
    if errand.mechanism == "EXTERNAL":
        command += ["--cert", str(errand.site.folder / "client.pem"), "--key", str(errand.site.folder / "client.key")]
        command[command.index("--user") + 1] = "client.example:" if errand.implicit else ":"
    command += [
        "--mail-from",
        "a@example.org",
        "--mail-rcpt",
        "b@elsewhere.example",
        f"{scheme}://{errand.host}:{errand.port}/client.example",
    ]
    return run(command)


def by_swaks(errand: Errand) -> bool:
    command = ["swaks", "--server", errand.host, "--port", str(errand.port), "--from", "a@example.org"]
    command += ["--tls-on-connect" if errand.implicit else "--tls", "--to", "b@elsewhere.example"]
    command += ["--auth", errand.mechanism, "--auth-user", USER, "--auth-password", errand.password]
    if errand.mechanism == "DIGEST-MD5":
        command += ["--auth-extra", "dmd5-serv-type=smtp,realm=example.com,dmd5-host=mx.example.com"]
    return run(command)


def by_msmtp(errand: Errand) -> bool:
    conf = errand.site.folder / f"msmtprc-{errand.mechanism}"
    user = "client.example" if errand.mechanism == "EXTERNAL" else USER
    lines = ["account default", f"host {errand.host}", f"port {errand.port}", "tls on", f"tls_trust_file {errand.ca}"]
    lines += [f"tls_starttls {'off' if errand.implicit else 'on'}", f"auth {errand.mechanism.lower()}", f"user {user}"]
    lines += [f"password {errand.password}", "domain client.example"]
    if errand.mechanism == "EXTERNAL":
        lines += [f"tls_cert_file {errand.site.folder}/client.pem", f"tls_key_file {errand.site.folder}/client.key"]
    conf.touch(0o600)
    conf.write_text("\n".join([*lines, ""]))
    return run(["msmtp", "-C", str(conf), "-d", "-f", "a@example.org", "--", "b@elsewhere.example"])


def by_gsasl(errand: Errand) -> bool:
    command = ["gsasl", "--smtp", "--mechanism", errand.mechanism, "--authentication-id", USER, "--password"]
    command += [
        errand.password,
        "--no-client-first",
        "--x509-ca-file",
        errand.ca,
        "--connect",
        f"localhost:{errand.port}",
    ]
    return run(command, "")
