"""Options of the Consumer scope: what `triosmtp consume` takes from a stream, and delivers."""

from attrs import frozen

from triosmtp.config.option import CONSUMER, option
from triosmtp.config.types.nats_types import JETSTREAM_NAME, SUBJECT
from triosmtp.config.types.option_type import BOOLEAN, LIMIT, SECONDS, TEXT, list_of

__all__ = ["ConsumerOptions"]

_HERE = (CONSUMER,)


@frozen(slots=False, kw_only=True)
class ConsumerOptions:
    """Consumers of a stream."""

    read_from: str | None = option(
        "Read_From", TEXT, None, "The Delivery with a nats:// address whose stream is read.", scopes=_HERE
    )
    durable_name: str = option(
        "Durable_Name", JETSTREAM_NAME, "triosmtp", "The durable consumer of the stream.", scopes=_HERE
    )
    results_bucket: str | None = option(
        "Results_Bucket",
        JETSTREAM_NAME,
        None,
        "The key-value bucket for results of single recipients; unset: the name of the stream and -results.",
        scopes=_HERE,
    )
    failure_subject: str | None = option(
        "Failure_Subject",
        SUBJECT,
        None,
        "The subject for mail that cannot be delivered; a stream must have it.",
        scopes=_HERE,
    )
    retry_delays: tuple[float, ...] = option(
        "Retry_Delays",
        list_of(SECONDS, "list of seconds"),
        (60.0, 300.0, 900.0, 3600.0),
        "Seconds before the next attempts; the last value is for all further ones.",
        scopes=_HERE,
    )
    message_expiration: float = option(
        "Message_Expiration",
        SECONDS,
        345600.0,
        "Seconds after its arrival until which a message is tried again.",
        scopes=_HERE,
    )
    concurrency: int = option(
        "Concurrency",
        LIMIT,
        20,
        "Messages that one process delivers at the same time; at most Max_Outbound_Connections of the target.",
        scopes=_HERE,
    )
    report_to: str | None = option(
        "Report_To",
        TEXT,
        None,
        "The target of reports about mail that cannot be delivered, as in Deliver_To. Unset: no reports.",
        scopes=_HERE,
    )
    report_strangers: bool = option(
        "Report_Strangers",
        BOOLEAN,
        False,
        "Whether senders that neither authenticated nor had a verified certificate receive reports, too.",
        scopes=_HERE,
    )
