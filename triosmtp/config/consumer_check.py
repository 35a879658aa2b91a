"""The checks of Consumer scopes: what they read, and their targets."""

from triosmtp.config.configuration import Config
from triosmtp.config.option import CONSUMER
from triosmtp.config.options import OPTIONS
from triosmtp.config.scope import Block
from triosmtp.config.source import Problems
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.option_type import quote
from triosmtp.config.types.target_address import is_delivery_name, parse_target

__all__ = ["check_consumers"]

_REQUIRED = ("read_from", "deliver_to", "failure_subject")
_SCHEMES = {"lmtp", "smtp", "smtps", "http", "https", "maildir"}


def check_consumers(config: Config, problems: Problems) -> None:
    """Report what is wrong with Consumer scopes."""
    for block in config.root.of_kind(CONSUMER):
        if block.place is None or not block.unknown.isdisjoint({"*", *_REQUIRED, "report_to", "retry_delays"}):
            continue
        missing = [OPTIONS[field].name for field in _REQUIRED if field not in block.assignments]
        if missing:
            problems.error(block.place, f"{block} needs {' and '.join(missing)}")
            continue
        _check_source(config, block, problems)
        _check_targets(config, block, problems)
        settings = config.consumers[block.instance or ""]
        if not settings.retry_delays:
            problems.error(block.assignments["retry_delays"].place, "Retry_Delays: needs one value at least")
        if not settings.concurrency:
            problems.error(block.assignments["concurrency"].place, "Concurrency: needs a number above 0")
        elif "concurrency" in block.assignments:
            _check_concurrency(config, block, problems)


def _check_concurrency(config: Config, block: Block, problems: Problems) -> None:
    settings = config.consumers[block.instance or ""]
    target = config.deliveries.get(settings.deliver_to[0])
    limit = 0 if target is None or target.scheme == "maildir" else target.settings.max_outbound_connections
    if 0 < limit < settings.concurrency:
        problems.warn(
            block.assignments["concurrency"].place,
            f"Concurrency: Max_Outbound_Connections of Delivery {quote(settings.deliver_to[0])} is {limit}, so no more "
            "messages are delivered at the same time",
        )


def _check_source(config: Config, block: Block, problems: Problems) -> None:
    name, place = str(block.assignments["read_from"].value), block.assignments["read_from"].place
    target = config.deliveries.get(name)
    if target is None:
        close = suggest(nearest(name, config.deliveries))
        problems.error(place, f"Read_From: there is no Delivery {quote(name)}{close}")
    elif target.scheme != "nats":
        problems.error(place, f"Read_From: Delivery {quote(name)} has no nats:// address")
    else:
        subject, failure = target.addresses[0].path.split("/", 2)[2], block.assignments["failure_subject"]
        if f"{failure.value}.".startswith(f"{subject}."):
            problems.error(
                failure.place,
                f"Failure_Subject: belongs to {subject} of Read_From: what fails would be delivered again",
            )


def _check_targets(config: Config, block: Block, problems: Problems) -> None:
    settings = config.consumers[block.instance or ""]
    if len(settings.deliver_to) > 1:
        problems.error(block.assignments["deliver_to"].place, "Deliver_To: a Consumer has one target")
    for field, name in (("deliver_to", settings.deliver_to[0]), ("report_to", settings.report_to)):
        if name is None:
            continue
        place = block.assignments[field].place
        try:
            scheme = config.deliveries[name].scheme if is_delivery_name(name) else parse_target(name).scheme
        except KeyError:
            if field == "report_to":
                problems.error(place, f"Report_To: there is no Delivery {quote(name)}")
            continue  # check_deliveries() reports the other
        except ValueError as error:
            problems.error(place, f"Report_To: {error}")
            continue
        if scheme not in _SCHEMES:
            expected = ", ".join(sorted(_SCHEMES))
            problems.error(place, f"{OPTIONS[field].name}: expected a target of {expected}, found {scheme}:")
