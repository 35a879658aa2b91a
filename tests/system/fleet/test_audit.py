"""The audit of the fleet: what it calls lost, double and unexplained."""

from pathlib import Path

import pytest

from examples.fleet.audit import RECIPIENTS, Report, Sender, make_report, read_redeliveries
from triosmtp.testing import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_bytes(Authority.create().certificate_pem)
    return path


class Case:
    """Messages that were sent, and files that were found."""

    def __init__(self, folder: Path, authority: Path, messages: int) -> None:
        self.sender = Sender(1, authority, messages)
        self.sender.accepted.update(range(messages))
        self.stored: dict[str, int] = {}
        self._new = folder / "new"
        self._new.mkdir()

    def store(
        self,
        number: int,
        identity: str,
        *,
        header: str = "X-Client: 192.0.2.1:25\n",
        recipients: tuple[str, ...] = RECIPIENTS,
    ) -> None:
        """Put a copy for each recipient into the Maildir, and the message into the stream."""
        self.stored[f"mail.in.{identity}"] = 1
        for each in recipients:
            text = f"Delivered-To: {each}\nReceived: by x\n id {identity}\n{header}X-Token: {number}\n\nx\n"
            (self._new / str(len(list(self._new.iterdir())))).write_text(text)

    def report(self, log: str = "", excuses: int = 0) -> Report:
        return make_report(self.sender, self._new.parent, self.stored, read_redeliveries([log]), excuses)


@pytest.fixture
def case(tmp_path: Path, authority: Path) -> Case:
    case = Case(tmp_path, authority, 2)
    case.store(0, "mx1-0a-1-1")
    return case


def test_all_is_right(case: Case) -> None:
    case.store(1, "mx2-0a-1-1")
    report = case.report()
    assert report.is_right
    assert (report.found, report.expected, report.doubles, report.lost) == (4, 4, 0, ())


def test_a_message_that_is_nowhere_is_lost(case: Case) -> None:
    report = case.report()
    assert report.lost == ((1, "ann@example.org"), (1, "joe@example.org"))
    assert not report.is_right


def test_a_message_that_one_recipient_does_not_have_is_lost(case: Case) -> None:
    case.store(1, "mx2-0a-1-1", recipients=("ann@example.org",))
    assert case.report().lost == ((1, "joe@example.org"),)


def test_a_message_that_was_not_accepted_is_not_lost(case: Case) -> None:
    case.sender.accepted.discard(1)
    assert case.report().is_right


def test_a_double_is_explained_by_an_attempt_without_250(case: Case) -> None:
    case.store(1, "mx2-0a-1-1")
    case.store(1, "mx3-0a-1-1")
    report = case.report()
    assert (report.doubles, report.unexplained, report.is_right) == (2, 2, False)
    case.sender.uncertain[1] = 1
    report = case.report()
    assert (report.doubles, report.without_reply, report.unexplained, report.is_right) == (2, 2, 0, True)


def test_an_attempt_of_another_message_explains_nothing(case: Case) -> None:
    case.store(1, "mx2-0a-1-1")
    case.store(1, "mx3-0a-1-1")
    case.sender.uncertain[0] = 5
    assert not case.report().is_right


LOG = "2026-12-01 01:02:03,004 WARNING triosmtp.consume: mail.in.{}: attempt 2, no result is recorded of {}\n"


def test_a_double_of_one_id_is_explained_by_a_consumer_that_died(case: Case) -> None:
    """And by the log of the one that took the message again without a result of this recipient."""
    case.store(1, "mx2-0a-1-1")
    case.store(1, "mx2-0a-1-1", recipients=("ann@example.org",))
    case.sender.uncertain[1] = 3
    assert case.report(excuses=10).unexplained == 1
    log = LOG.format("mx2-0a-1-1", "'joe@example.org', 'ann@example.org'")
    assert case.report(log).unexplained == 1
    report = case.report(log, excuses=1)
    assert (report.redelivered, report.unexplained, report.is_right) == (1, 0, True)


@pytest.mark.parametrize(("identity", "recipient"), [("mx2-0a-1-2", "ann"), ("mx2-0a-1-1", "joe")])
def test_another_message_or_recipient_that_was_taken_again_explains_nothing(
    case: Case, identity: str, recipient: str
) -> None:
    case.store(1, "mx2-0a-1-1")
    case.store(1, "mx2-0a-1-1", recipients=("ann@example.org",))
    report = case.report(LOG.format(identity, f"'{recipient}@example.org'"), excuses=10)
    assert (report.redelivered, report.unexplained, report.is_right) == (0, 1, False)


def test_a_third_copy_needs_a_second_explanation(case: Case) -> None:
    for _ in range(3):
        case.store(1, "mx2-0a-1-1", recipients=("ann@example.org",))
    case.store(1, "mx2-0a-1-1", recipients=("joe@example.org",))
    log = LOG.format("mx2-0a-1-1", "'ann@example.org'")
    assert case.report(log, excuses=10).unexplained == 1
    assert case.report(log * 2, excuses=10).is_right


def test_an_id_that_is_stored_twice_is_wrong(case: Case) -> None:
    case.store(1, "mx2-0a-1-1")
    case.stored["mail.in.mx2-0a-1-1"] = 2
    assert not case.report().is_right


def test_a_message_without_policy_is_wrong(case: Case) -> None:
    case.store(1, "mx2-0a-1-1", header="")
    assert (case.report().unmarked, case.report().is_right) == (2, False)
