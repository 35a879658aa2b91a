"""A running server scanned by testssl.sh, which is slow: see `SECTIONS`."""

import os
from collections import Counter
from pathlib import Path

import pytest
from scanned_server import Port, ScannedServer, serving
from scanner import Finding, findings_of, program, start_testssl

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
SECTIONS: tuple[str, ...] = ("-p", "-s", "-R", "-W", "-Z", "-L")
"""Protocols, cipher categories, renegotiation, 64 bit blocks, fallback, CBC: the sections of a short scan."""
HARMLESS = {"OK", "INFO", "LOW", "WARN"}
"""A warning is what testssl.sh could not look at (GOST ciphers, which this openssl does not have)."""
SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"


def scanned(server: ScannedServer, folder: Path) -> list[tuple[Port, list[Finding]]]:
    """Scan both ports side by side."""
    sections = () if JUDGE else SECTIONS
    if not JUDGE:
        print(f"scaled down: {len(SECTIONS)} sections of testssl.sh instead of its default run")
    processes = [(port, start_testssl(port, folder, sections)) for port in server.ports]
    return [(port, findings_of(process, port, folder, seconds=500)) for port, process in processes]


def said(findings: list[Finding], name: str) -> str:
    (finding,) = (each for each in findings if each.id == name)
    return f"{finding.severity}: {finding.text}"


@pytest.mark.parametrize(
    "ciphers",
    ["DEFAULT", pytest.param(SUITES, marks=pytest.mark.skipif(not JUDGE, reason="scaled down: DEFAULT alone"))],
)
def test_nothing_above_low(ciphers: str, tmp_path: Path) -> None:
    """No exception is made: the certificates are what a public authority issues, and this authority is trusted."""
    program("testssl.sh", "testssl")
    with serving(tmp_path, f'TLS_Ciphers = "{ciphers}"') as server:
        for port, findings in scanned(server, tmp_path):
            severities = Counter(each.severity for each in findings)
            print(f"{port}: {dict(severities)}")
            remarks = {each.id: each.text for each in findings if each.severity not in {"OK", "INFO"}}
            print(remarks)
            assert not [each for each in findings if each.severity not in HARMLESS | {"DEBUG"}]
            assert said(findings, "TLS1_1") == "INFO: not offered"
            assert said(findings, "TLS1_2") == "OK: offered"
            assert said(findings, "TLS1_3").startswith("OK: offered")
            assert said(findings, "secure_client_renego") == "OK: not vulnerable"
            # CBC is all that is said against DEFAULT; without it there is nothing.
            low = {each.id for each in findings if each.severity == "LOW"}
            assert low == ({"cipherlist_AVERAGE", "LUCKY13"} if ciphers == "DEFAULT" else set())
