"""Metrics: what is counted, under which names, and that nobody outside can make new ones."""

import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from metric_scrape import scrape, until
from nats_servers import free_ports
from serve_process import REPOSITORY
from status_server import MAIL, STATUS, get, serving

from triosmtp.commands import top_screen
from triosmtp.config import parse_config
from triosmtp.errors import ConfigError, Reject
from triosmtp.policy_client import PolicyClient, PolicyRequest
from triosmtp.policy_service.hub import HubLimits
from triosmtp.status.metric_family import FAMILIES
from triosmtp.status.overview import Overview
from triosmtp.status.status_source import ServerSource
from triosmtp.testing import Authority

DEPLOY = REPOSITORY / "examples" / "deploy"


# A real server


async def test_a_message_is_counted() -> None:
    async with serving() as here:
        before = await scrape(here)
        listener = (("listener", "127.0.0.1:0"),)
        assert before["triosmtp_messages_total", (*listener, ("result", "accepted"))] == 0
        assert before["triosmtp_sessions", listener] == 0
        async with await trio.open_tcp_stream("127.0.0.1", here.mail_port) as client:
            for command in (
                "EHLO a.example", "MAIL FROM:<a@b.example>", "RCPT TO:<x@elsewhere.example>", "RCPT TO:<x@example.org>",
                "DATA", "Subject: x\r\n\r\nbody\r\n.", "NONSENSE", "QUIT",
            ):  # fmt: skip
                await client.send_all(command.encode() + b"\r\n")
                await client.receive_some()
                if command.startswith("EHLO"):
                    assert (await scrape(here))["triosmtp_sessions", listener] == 1
        await until(here, "triosmtp_sessions_ended_total", 1, reason="quit")
        after = await scrape(here)
        for name, labels, value in (
            ("sessions_total", {"listener": "127.0.0.1:0"}, 1),
            ("sessions", {"listener": "127.0.0.1:0"}, 0),
            ("messages_total", {"listener": "127.0.0.1:0", "result": "accepted"}, 1),
            ("message_recipients_total", {}, 1),
            ("message_size_bytes_count", {}, 1),
            ("message_duration_seconds_count", {}, 1),
            ("delivery_duration_seconds_count", {}, 1),
            ("target_answers_total", {"target": "discard:", "class": "2xx"}, 1),
            ("target_available", {"target": "discard:"}, 1),
            ("target_connections", {"target": "discard:"}, 0),
            ("session_duration_seconds_count", {}, 1),
            ("commands_total", {"command": "RCPT"}, 2),
            ("commands_total", {"command": "QUIT"}, 1),
            ("commands_total", {"command": "other"}, 1),
            ("refusals_total", {"listener": "127.0.0.1:0", "phase": "rcptto", "code": "550", "decided_by": "relay"}, 1),
            (
                "refusals_total",
                {"listener": "127.0.0.1:0", "phase": "command", "code": "500", "decided_by": "protocol"},
                1,
            ),
        ):
            assert after[f"triosmtp_{name}", tuple(sorted(labels.items()))] == value, name
        latency = after["triosmtp_target_latency_seconds", (("target", "discard:"),)]
        assert latency == after["triosmtp_delivery_duration_seconds_sum", ()]
        assert after["triosmtp_message_bytes_total", listener] == after["triosmtp_message_size_bytes_sum", ()] > 10
        assert (
            0 < after["triosmtp_delivery_duration_seconds_sum", ()] < after["triosmtp_message_duration_seconds_sum", ()]
        )


async def test_handshakes_client_certificates_and_expiry_are_counted(tmp_path: Path) -> None:
    authority, clients = Authority.create(), Authority.create("client CA")
    ours = authority.issue("localhost", dns=["localhost"])
    ours.write(tmp_path, "server")
    (tmp_path / "clients.pem").write_bytes(clients.certificate_pem)
    clients.issue("good.example").write(tmp_path, "good")
    clients.issue("old.example", not_after=datetime.now(UTC) - timedelta(days=1)).write(tmp_path, "expired")
    Authority.create("elsewhere").issue("foreign.example").write(tmp_path, "foreign")
    clients.issue("mx.example", usage=["server"]).write(tmp_path, "mx")
    text = f"""ESMTP_Listener {{ Listen "127.0.0.1:0" {{ Use_SSL = true TLS_Ciphers = "DEFAULT"
        TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key"
        TLS_Client_CA = "{tmp_path}/clients.pem" Relay_Domains = ( "example.org" ) Deliver_To = "discard:" }} }}
        {STATUS}"""
    async with serving(text) as here:
        for number, name in enumerate((None, "good", "expired", "foreign", "mx"), 1):
            context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.maximum_version = ssl.TLSVersion.TLSv1_3 if number > 1 else ssl.TLSVersion.TLSv1_2
            if name is not None:
                context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
            tcp = await trio.open_tcp_stream("127.0.0.1", here.mail_port)
            async with trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True) as client:
                await client.send_all(b"QUIT\r\n")
                assert (await client.receive_some()).startswith(b"220 ")
            await until(here, "triosmtp_sessions_ended_total", number, reason="quit")
        async with await trio.open_tcp_stream("127.0.0.1", here.mail_port) as client:
            await client.send_all(b"EHLO this.is.no.tls.example\r\n")
            assert await client.receive_some() is not None
        await until(here, "triosmtp_tls_failures_total", 1, listener="127.0.0.1:0", reason="not_tls")
        found = await scrape(here)
    failures = [("failed", reason) for reason in ("expired", "unknown_issuer", "unsuitable")]
    for outcome, reason in (("absent", ""), ("verified", ""), *failures):
        labels = ("listener", "127.0.0.1:0"), ("outcome", outcome), ("reason", reason)
        assert found["triosmtp_tls_client_certificates_total", labels] == 1
    assert found["triosmtp_tls_handshakes_total", (("listener", "127.0.0.1:0"), ("result", "ok"))] == 5
    assert found["triosmtp_tls_handshakes_total", (("listener", "127.0.0.1:0"), ("result", "failed"))] == 1
    assert found["triosmtp_tls_handshake_duration_seconds_count", ()] == 5
    assert found["triosmtp_tls_server_certificates_total", (("listener", "127.0.0.1:0"), ("outcome", "failed"))] == 1
    established = {dict(labels)["version"]: value for (name, labels), value in found.items() if "established" in name}
    assert established == {"TLSv1.2": 1, "TLSv1.3": 4}
    expiry = {
        dict(labels)["file"]: value
        for (name, labels), value in found.items()
        if name.startswith("triosmtp_certificate_exp")
    }
    assert expiry == {f"{tmp_path}/server.pem": ours.certificate.not_valid_after_utc.timestamp()}


async def test_without_a_status_listener_nothing_is_counted() -> None:
    async with serving(MAIL) as here:
        assert here.status._observers == ()
        await here.reload(f"{MAIL} {STATUS}")
        assert len(here.status._observers) == 2  # the metrics, and what people look at


async def test_reloads_are_counted() -> None:
    async with serving() as here:
        await here.reload(f"{MAIL} {STATUS}")
        found = await scrape(here)
        assert found["triosmtp_configuration_reloads_total", (("result", "ok"),)] == 1
        assert found["triosmtp_configuration_last_reload_successful", ()] == 1
        assert found["triosmtp_configuration_last_reload_timestamp_seconds", ()] == pytest.approx(time.time(), abs=60)
        with pytest.raises(ConfigError, match="Policy"):
            await here.server.reload(
                parse_config(MAIL.replace("Deliver_To", 'Policy = ( "python:no.such:Thing" ) Deliver_To'))
            )
        found = await scrape(here)
        assert found["triosmtp_configuration_reloads_total", (("result", "failed"),)] == 1
        assert found["triosmtp_configuration_last_reload_successful", ()] == 0


async def test_the_time_of_revocation_lists(tmp_path: Path) -> None:
    authority, other = Authority.create("one"), Authority.create("two")
    authority.issue("localhost").write(tmp_path, "cert")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem + other.certificate_pem)
    lists = [each.revocation_list(next_update=timedelta(days=days)) for each, days in ((authority, 9), (other, 3))]
    (tmp_path / "crl.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    tls = "".join(
        f'TLS_{option} = "{tmp_path}/{name}" '
        for option, name in (
            ("Certificate", "cert.pem"),
            ("Key", "cert.key"),
            ("Client_CA", "ca.pem"),
            ("Client_CRL", "crl.pem"),
        )
    )
    listen = f'Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "STARTTLS" ) {tls} }}'
    options = 'Relay_Domains = ( "example.org" ) Deliver_To = "discard:"'
    async with serving(f"{options} ESMTP_Listener {{ {listen} }} {STATUS}") as here:
        found = await scrape(here)
    name, file = "triosmtp_revocation_list_expiry_timestamp_seconds", str(tmp_path / "crl.pem")
    assert lists[1].next_update_utc is not None
    assert found[name, (("file", file),)] == lists[1].next_update_utc.timestamp()


async def test_renewals_of_certificates_are_counted(tmp_path: Path) -> None:
    authority = Authority.create()
    listens = ""
    for name, port in (("one", "0"), ("two", "00")):
        authority.issue("localhost", dns=["localhost"]).write(tmp_path, name)
        listens += f"""Listen "127.0.0.1:{port}" {{ SMTP_Extensions = ( "STARTTLS" ) TLS_Ciphers = "DEFAULT"
            TLS_Certificate = "{tmp_path}/{name}.pem" TLS_Key = "{tmp_path}/{name}.key" }} """
    options = 'TLS_Watch = false Relay_Domains = ( "example.org" ) Deliver_To = "discard:"'
    async with serving(f"{options} ESMTP_Listener {{ {listens} }} {STATUS}") as here:
        before = await scrape(here)
        assert before["triosmtp_certificate_reloads_total", (("result", "ok"),)] == 0
        assert before["triosmtp_certificate_last_reload_timestamp_seconds", ()] == 0
        later = datetime.now(UTC) + timedelta(days=3000)
        for name in ("one", "two"):
            authority.issue("localhost", dns=["localhost"], not_after=later).write(tmp_path, name)
        await here.server.reload_certificates()
        found = await scrape(here)
        # Two certificates, and one renewal.
        assert found["triosmtp_certificate_reloads_total", (("result", "ok"),)] == 1
        assert found["triosmtp_certificate_last_reload_timestamp_seconds", ()] == pytest.approx(time.time(), abs=60)
        ends = [value for (name, _), value in found.items() if name == "triosmtp_certificate_expiry_timestamp_seconds"]
        assert ends == pytest.approx([later.timestamp()] * 2, abs=2)
        assert found["triosmtp_certificate_problems", ()] == 0
        (tmp_path / "one.pem").write_bytes(b"no certificate")
        await here.server.reload_certificates()
        found = await scrape(here)
        assert found["triosmtp_certificate_reloads_total", (("result", "failed"),)] == 1
        assert found["triosmtp_certificate_problems", ()] == 1


async def test_policy_clients_are_counted(tmp_path: Path) -> None:
    policy = 'Policy = ( "websocket:partners" )'
    policy_listener = f'Policy_Listener {{ Listen "{tmp_path}/policy" {{ }} }}'
    async with serving(f"{policy} {MAIL} {policy_listener} {STATUS}") as here:
        await say(here.mail_port, "EHLO a.example", "MAIL FROM:<a@b.example>", "QUIT")
        found = await scrape(here)
        fallback = (("fallback", "tempfail"), ("group", "partners"), ("phase", "mailfrom"))
        assert found["triosmtp_policy_fallbacks_total", fallback] == 1
        group = (("group", "partners"),)
        assert found["triosmtp_policy_deciders", group] == 0
        assert found["triosmtp_policy_latency_seconds_count", group] == 0
        decider, shadow = (
            PolicyClient(f"unix:{tmp_path}/policy", name=mode, group="partners", mode=mode)
            for mode in ("enforce", "shadow")
        )
        decider.on("mailfrom")(agree)
        shadow.on("mailfrom")(refuse)
        async with trio.open_nursery() as nursery:
            await nursery.start(decider.run)
            await nursery.start(shadow.run)
            await say(here.mail_port, "EHLO a.example", "MAIL FROM:<a@b.example>", "QUIT")
            await until(here, "triosmtp_policy_shadow_differences_total", 1, group="partners", phase="mailfrom")
            found = await scrape(here)
            nursery.cancel_scope.cancel()
    assert found["triosmtp_policy_deciders", group] == 1
    assert found["triosmtp_policy_breaker_open", group] == 0
    assert found["triosmtp_policy_requests_total", group] == 1
    assert found["triosmtp_policy_answers_total", (*group, ("result", "answered"))] == 1
    assert found["triosmtp_policy_latency_seconds_count", group] == 1
    assert 0 < found["triosmtp_policy_latency_seconds_sum", group] < 5
    assert found["triosmtp_policy_fallbacks_total", fallback] == 1


async def test_lost_events_are_counted_for_each_observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nats")
    monkeypatch.setattr("triosmtp.jetstream.event_publisher.MAX_EVENTS", 0)
    events = f'Node_Name = "mx1" Publish_Events = "nats://127.0.0.1:{free_ports(1)[0]}/triosmtp.events"'
    async with serving(f'{events} {MAIL} Policy_Listener {{ Listen "{tmp_path}/policy" {{ }} }} {STATUS}') as here:
        hub, source = here.server.service.hub, ServerSource(here.server, lambda: {"stderr": 4})
        hub.limits = HubLimits(queue=0)
        observer = PolicyClient(f"unix:{tmp_path}/policy", name="observer")
        observer.notification("session.*")(agree)
        async with trio.open_nursery() as nursery:
            await nursery.start(observer.run)
            await say(here.mail_port, "EHLO a.example", "QUIT")
            await until(here, "triosmtp_events_lost_total", 2, observer="policy_clients")
            nursery.cancel_scope.cancel()
        found = await scrape(here)
        assert found["triosmtp_events_lost_total", (("observer", "nats"),)] >= 2
        overview = await Overview().gather(source)
        assert overview["lost_events"]["stderr"] == 4
        assert overview["lost_events"]["policy_clients"] == 2
        assert "EVENTS LOST: policy_clients 2, nats " in "".join(top_screen.render(overview, 200, 50))


async def agree(request: object) -> None:
    """Let it go on."""


async def refuse(request: PolicyRequest) -> None:
    raise Reject(550, "5.7.1", "not from there")


async def say(port: int, *commands: str) -> None:
    """Send commands, each when the one before is answered, and read to the end."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as client:
        with trio.fail_after(20):
            for command in commands:
                await client.receive_some()
                await client.send_all(command.encode() + b"\r\n")
            while await client.receive_some():
                pass


# The exposition


def promtool(*arguments: str, stdin: str = "") -> None:
    """Check a file with Prometheus' own tool."""
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), "promtool is missing"
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        ("promtool", *arguments), input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


async def test_promtool_finds_nothing_to_say_about_a_scrape() -> None:
    async with serving() as here:
        body = (await get(here.port, "/metrics")).body
    await trio.to_thread.run_sync(lambda: promtool("check", "metrics", stdin=body))


def test_promtool_accepts_the_alert_rules() -> None:
    promtool("check", "rules", "--lint-fatal", str(DEPLOY / "alerts.yml"))


def test_alerts_fire_and_are_silent(tmp_path: Path) -> None:
    """What promtool calls a unit test: series in, alerts out."""
    rules = {
        "rule_files": [str(DEPLOY / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {
                        "series": 'triosmtp_certificate_expiry_timestamp_seconds{file="/a.pem",instance="i"}',
                        "values": "864000x200",
                    },
                    {
                        "series": 'triosmtp_certificate_expiry_timestamp_seconds{file="/b.pem",instance="i"}',
                        "values": "8640000x200",
                    },
                    {"series": 'triosmtp_configuration_last_reload_successful{instance="i"}', "values": "0x200"},
                    {"series": 'triosmtp_refusals_total{instance="i",decided_by="delivery"}', "values": "0+1x200"},
                    {"series": 'triosmtp_refusals_total{instance="i",decided_by="relay"}', "values": "0+9x200"},
                ],
                "alert_rule_test": [
                    {
                        "eval_time": "2h",
                        "alertname": "TriosmtpCertificateExpiresSoon",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "warning", "file": "/a.pem", "instance": "i"},
                                "exp_annotations": {"summary": "/a.pem ends in 9d 22h 0m 0s"},
                            }
                        ],
                    },
                    {"eval_time": "2h", "alertname": "TriosmtpCertificateExpires", "exp_alerts": []},
                    {
                        "eval_time": "30m",
                        "alertname": "TriosmtpConfigurationUnusable",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "warning", "instance": "i"},
                                "exp_annotations": {
                                    "summary": "i: the configuration could not be reloaded; the one before is in force"
                                },
                            }
                        ],
                    },
                    {
                        "eval_time": "30m",
                        "alertname": "TriosmtpDeliveryFails",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "critical", "instance": "i", "decided_by": "delivery"},
                                "exp_annotations": {
                                    "summary": "i: messages are refused by delivery; clients are told to come back"
                                },
                            }
                        ],
                    },
                ],
            }
        ],
    }
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps(rules))  # YAML takes JSON
    promtool("test", "rules", str(path))


# The files of examples/deploy, and the page


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\b(?:triosmtp|process)_[a-z0-9_]+\b", text)) - {"triosmtp_token"}


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
async def test_every_metric_that_is_asked_for_is_in_a_real_scrape(name: str) -> None:
    text = (DEPLOY / name).read_text()
    if name.endswith("json"):
        text = "\n".join(expression for _, expression in expressions(json.loads(text)))
    else:
        text = re.sub(r"^ *(#|summary:).*$", "", text, flags=re.MULTILINE)
    async with serving() as here:
        body = (await get(here.port, "/metrics")).body
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", body, re.MULTILINE))
    there = {
        f"{family}{suffix}"
        for family, kind in families.items()
        for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    named = metric_names(text)
    assert len(named) > 8
    assert named - there == set()
    for family, labels in re.findall(r"((?:triosmtp)_[a-z0-9_]+?)(?:_bucket)?\{([^}]*)\}", text):
        used = set(re.findall(r"([a-z_]+)\s*(?:=~|!=|=)", labels)) - {"instance", "job"}
        assert used <= set(FAMILIES[family].labels), (family, used)


def expressions(value: Any, title: str = "") -> Iterator[tuple[str, str]]:
    """Return every PromQL expression of a dashboard, with the title of its panel."""
    if isinstance(value, dict):
        title = value.get("title", title)
        if "expr" in value:
            yield title, value["expr"]
        for each in value.values():
            yield from expressions(each, title)
    elif isinstance(value, list):
        for each in value:
            yield from expressions(each, title)


def test_every_expression_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for number, (_, expression) in enumerate(expressions(json.loads((DEPLOY / "dashboard.json").read_text())))
    ]
    assert len(rules) > 20
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads((DEPLOY / "dashboard.json").read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


# What a peer can do


# What it costs


# The event loop


# Histograms
