"""The policies that README and documentation show: none lets a client in that stays in plaintext."""

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tls_stanza import Material, secured

from triosmtp import Reject, policy_client
from triosmtp.policy_client import PolicyRequest
from triosmtp.testing import open_memory_server

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    f"{page.name}-{number}": text for page in PAGES for number, text in enumerate(FENCE.findall(page.read_text()))
}
_EXAMPLE = re.search(r"::\n\n((?:    .*\n|\n)+)", policy_client.__doc__ or "")
assert _EXAMPLE
PROGRAMS["client.py"] = (
    "from triosmtp import Reject\nfrom triosmtp.policy_client import PolicyClient, PolicyRequest\n"
    + dedent(_EXAMPLE[1]).replace("trio.run(", "print(")  # it does not ask whether it is the main program
)
PLAINTEXT = (530, "5.7.0 Must issue a STARTTLS command first")


def demanding(marker: str) -> list[Any]:
    """Pick the programs with ``marker`` that refuse a certificate which did not verify."""
    found = [
        pytest.param(text, id=name)
        for name, text in PROGRAMS.items()
        if marker in text and "Reject(" in text and "verified" in text
    ]
    assert len(found) > 1, "the pages have changed their form"
    return found


@pytest.mark.parametrize("program", demanding("(Policy)"))
async def test_policy_refuses_plaintext_and_failed_certificates(program: str, tmp_path: Path) -> None:
    """Each with a text of its own: there is no verify error to show to a client that did not start TLS."""
    namespace: dict[str, Any] = {}
    exec(program, namespace)  # the block is ours
    [policy] = [value for value in namespace.values() if isinstance(value, type) and value.__module__ == "builtins"]
    material = Material(tmp_path)
    async with open_memory_server(material.conf(), policy=policy()) as server:
        plaintext = server.connect()
        await plaintext.read()
        await plaintext.command("EHLO client.example.org")
        answer = await plaintext.command("MAIL FROM:<a@example.org>")
        assert (answer.code, answer.text) == PLAINTEXT
        for name, code in (("good", 250), ("expired", 550), (None, 550)):
            client = await secured(server, material.client(name))
            await client.command("EHLO client.example.org")
            answer = await client.command("MAIL FROM:<a@example.org>")
            assert (answer.code, "certificate" in answer.text) == (code, code == 550)


@pytest.mark.parametrize("program", demanding("PolicyClient("))
async def test_policy_client_refuses_plaintext_and_failed_certificates(program: str) -> None:
    namespace: dict[str, Any] = {"__name__": "example", "token": "x" * 16}
    exec(program, namespace)  # the block is ours

    async def answer(**variables: str) -> tuple[int, str] | None:
        asked = PolicyRequest("1", "s", "mailfrom", "192.0.2.1", ":25", variables, {}, {}, 1000)
        try:
            await namespace["check"](asked)
        except Reject as refusal:
            return refusal.code, f"{refusal.enhanced} {refusal.text}"
        return None

    assert await answer() == PLAINTEXT
    refused = await answer(tls="on", tls_client_verified="no", tls_client_verify_error="certificate has expired")
    assert refused is not None
    assert (refused[0], "certificate" in refused[1]) == (550, True)
    assert await answer(tls="on", tls_client_verified="yes") is None
