"""``triosmtp consume``: takes messages from a stream, delivers each to its target, and settles it only then.

Recipients are delivered one after the other, and the results so far are written before the next one.  So another
consumer goes on at the recipient at which one died.

Another program may have published a message, and it may be a hostile one.  One that no node publishes goes to the
failure subject.  No message may stop a consumer, stay in the stream for ever, or change the results of another one.
"""

import json
import logging
import re
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, Final

import trio
from attrs import evolve, frozen

from triosmtp.delivery import Delivery, RecipientResult
from triosmtp.jetstream.consumer_source import ConsumerSource, ObjectMissingError, TakenMessage
from triosmtp.jetstream.delivery_report import make_report, recipients_to_report
from triosmtp.jetstream.message_codec import DOCUMENT_SPACE, StreamMessage, decode_message
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_publisher import PublishError
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.envelope_document import EnvelopeDocument, EnvelopeError, ObjectReference, encode_document
from triosmtp.message.spool import Body
from triosmtp.smtp import Address

__all__ = ["ConsumerSettings", "StreamConsumer"]

_log = logging.getLogger("triosmtp.consume")

_HEAD: Final = 64 * 1024
_INLINE: Final = 64 * 1024
"""Octets of a payload that is read without a thread."""
_MAX_REASON: Final = 250
"""Characters of the header with the reason: it must fit beside a message of the maximum size."""
_MAX_MESSAGE: Final = 1 << 20
"""Octets of the largest message, as long as the stream has not answered."""
_MIN_PART: Final = 2048
"""Octets of a part that each stream can store."""
_RESULT_SPACE: Final = 34
"""Octets of a written result beside its text; a recipient of a document needs more."""
_MAX_TEXT: Final = 512
_MAX_ESCAPE: Final = 12
"""Octets of a character of JSON in ASCII."""
_SEQUENCE: Final = "sequence"
_REPORTED: Final = "reported"
_OPTIONAL: Final = {"MT-PRIORITY": "MT-PRIORITY", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN"}
"""The parameters that a message can do without, by their extensions."""
_EXPIRED: Final = RecipientResult(554, "5.4.7", "The message has expired")
_FAILED: Final = RecipientResult(451, "4.3.0", "Local error in processing")


@frozen(slots=True, kw_only=True)
class ConsumerSettings:
    """The settings of a consumer: the options of its scope."""

    failure_subject: str
    retry_delays: tuple[float, ...]
    message_expiration: float
    report_strangers: bool
    hostname: str
    concurrency: int
    """Messages that are delivered at the same time."""


class StreamConsumer:
    """Delivers what ``source`` takes to ``target``, and reports to ``reports`` if that is not None."""

    def __init__(
        self, settings: ConsumerSettings, source: ConsumerSource, target: Delivery, reports: Delivery | None
    ) -> None:
        self._settings = settings
        self._source = source
        self._target = target
        self._reports = reports
        self._call = source.thread.call

    async def handle(self, taken: TakenMessage) -> None:
        """Deliver one message, and settle it."""
        try:
            await self._deliver(taken)
        except (NATSUnavailableError, PublishError) as error:
            # It is delivered again when ack_wait is over.
            _log.error("%s: not settled: %s", taken.subject, error)
        except Exception as error:  # noqa: BLE001 - one message must not end the consumer
            _log.exception("%s: cannot be handled", taken.subject)
            await self._put_off(taken, repr(error))
        # A message that is cancelled stays in hand, and is returned.
        self._source.thread.notify(partial(self._source.release, taken))

    async def _put_off(self, taken: TakenMessage, reason: str) -> None:
        """Return a message that this version cannot handle, as another one may.  Once it has expired, it has failed."""
        try:
            if _age(taken, None) < self._settings.message_expiration:
                await self._return(taken)
            else:
                await self._fail(taken, taken.payload, f"cannot be handled: {reason}")
        except (NATSUnavailableError, PublishError) as error:
            _log.error("%s: not settled: %s", taken.subject, error)

    async def _return(self, taken: TakenMessage) -> None:
        """Return a message for the next attempt."""
        delays = self._settings.retry_delays
        delay = delays[min(taken.attempt, len(delays)) - 1]
        word = json.dumps({"delay": int(delay * 1_000_000_000)}).encode()
        await self._call(self._source.settle, taken, b"-NAK " + word)

    async def _deliver(self, taken: TakenMessage) -> None:
        try:
            found = await _decode(taken.payload)
            self._check_names(taken, found)
        except EnvelopeError as error:
            await self._fail(taken, taken.payload, f"malformed: {error}", is_mail=False)
            return
        count = len(found.document.envelope.recipients)
        # The attempts are counted from 1 again if the durable consumer is made again; the results stay.
        is_new = taken.attempt == 1 and count == 1
        results = {} if is_new else await self._call(self._source.read_results, taken.name)
        if results.get(_SEQUENCE, taken.sequence) != taken.sequence:
            results = {}  # of another message with the same name
        async with AsyncExitStack() as stack:
            try:
                body = await self._body(found, stack)
            except (ObjectMissingError, EnvelopeError) as error:
                await self._fail(taken, taken.payload, str(error))
                return
            known = _read_results(results, count)
            if known or taken.attempt > 1:
                self._log_again(taken, found, known)
            outcome = await self._deliver_each(taken, _message(found, body), known)
            await self._settle(taken, found, body, outcome, results)

    def _check_names(self, taken: TakenMessage, found: StreamMessage) -> None:
        """Check that the subject and the object belong to the message: those of another one must not be touched.

        :raises EnvelopeError: if they do not.
        """
        document = found.document
        if not re.fullmatch(re.escape(document.id) + "(?:-[0-9]{1,9})?", taken.name):
            raise EnvelopeError("id: the subject has another one")
        reference = document.object
        if reference is not None and reference != ObjectReference(self._source.address.bucket, taken.name):
            raise EnvelopeError("object: expected one in the bucket of the stream, with the name in the subject")

    def _log_again(self, taken: TakenMessage, found: StreamMessage, known: dict[int, RecipientResult]) -> None:
        """Log the recipients that an attempt that was cut off may have delivered: this explains doubles."""
        recipients = enumerate(found.document.envelope.recipients)
        left = [ascii(str(each)) for number, each in recipients if number not in known]
        if left:
            _log.warning("%s: attempt %d, no result is recorded of %s", taken.subject, taken.attempt, ", ".join(left))

    async def _body(self, found: StreamMessage, stack: AsyncExitStack) -> Body:
        """Return the octets of a message, those of an object in a file without a name."""
        reference, document = found.document.object, found.document
        if reference is None:
            return Body(found.octets)
        file = await trio.to_thread.run_sync(_open_file)
        try:
            await self._call(self._source.read_object, reference.name, document.size, file)
            size, digest, head = await trio.to_thread.run_sync(_examine, file)
        except BaseException:
            file.close()
            raise
        body = Body.from_file(file, head, size, Path(tempfile.gettempdir()))
        stack.callback(body.close)
        if (size, digest) != (document.size, document.sha256):
            raise EnvelopeError("object: the octets have another size or digest")
        return body

    async def _deliver_each(
        self, taken: TakenMessage, message: Message, known: dict[int, RecipientResult]
    ) -> dict[int, RecipientResult]:
        results = dict(known)
        recipients = message.envelope.recipients
        left = [number for number in range(len(recipients)) if number not in known or known[number].is_deferred]
        for position, number in enumerate(left):
            envelope = self._without_lacking(evolve(message.envelope, recipients=[recipients[number]]))
            part = evolve(message, envelope=envelope, part=number)
            results[number] = await self._deliver_one(part)
            if position < len(left) - 1:
                await self._write_results(taken, results)
        return results

    def _without_lacking(self, envelope: Envelope) -> Envelope:
        """Return an envelope without the parameters of extensions that the target does not have.

        A message with MT-PRIORITY or parameters of DSN is relayed all the same (RFC 6710 and RFC 3461,
        section 5.2.2).  When it was accepted, nobody could know to which hop it goes.
        """
        lacking = self._target.may_honour - self._target.honours
        dropped = {name for name, extension in _OPTIONAL.items() if extension in lacking}
        (recipient,) = envelope.recipients
        if dropped.isdisjoint(envelope.parameters.keys() | recipient.parameters.keys()):
            return envelope
        recipient = Recipient(recipient.address, _except(recipient.parameters, dropped))
        return evolve(envelope, parameters=_except(envelope.parameters, dropped), recipients=[recipient])

    async def _write_results(
        self, taken: TakenMessage, results: dict[int, RecipientResult], *, is_reported: bool = False
    ) -> None:
        """Write the results so far.  They fit: the document, which fits, has more octets for each recipient."""
        space = self._max_message() - DOCUMENT_SPACE - len(results) * _RESULT_SPACE
        longest = max(0, min(_MAX_TEXT, space // len(results) // _MAX_ESCAPE))
        written = _written(results, taken.sequence, longest)
        if is_reported:
            written[_REPORTED] = True
        await self._call(self._source.write_results, taken.name, written)

    def _max_message(self) -> int:
        facts = self._source.facts
        return _MAX_MESSAGE if facts is None else facts.max_message

    async def _deliver_one(self, message: Message) -> RecipientResult:
        try:
            (result,) = await self._target.deliver_each(message)
        except Exception as error:  # noqa: BLE001 - a fault of a delivery must not end the consumer
            _log.exception("%s: message %s", self._target, message.id)
            return evolve(_FAILED, reason=repr(error))
        level = logging.INFO if result.is_delivered else logging.WARNING
        recipient = message.envelope.recipients[0]
        _log.log(level, "message %s to %s: %s %s", message.id, ascii(str(recipient)), result.code, ascii(result.text))
        return result

    async def _settle(
        self,
        taken: TakenMessage,
        found: StreamMessage,
        body: Body,
        results: dict[int, RecipientResult],
        known: Mapping[str, Any],
    ) -> None:
        """Settle a message with these results; ``known`` is what an earlier attempt wrote."""
        document, several = found.document, len(results) > 1
        written, is_reported = bool(known) or several, known.get(_REPORTED) is True
        deferred = [number for number, each in results.items() if each.is_deferred]
        if deferred and _age(taken, document.received) < self._settings.message_expiration:
            await self._write_results(taken, results)
            await self._return(taken)
            return
        failed = {number: _final(each) for number, each in sorted(results.items()) if not each.is_delivered}
        if failed:
            if several:  # if the next steps fail, what is delivered must not be delivered again
                await self._write_results(taken, results)
            await self._store_failure(taken, _only(taken.payload, failed), _reasons(failed))
            if not is_reported:  # behind the step that may fail: not once for each attempt
                await self._report(document, body, failed)
            settled = await self._call(self._source.settle, taken, b"+TERM")
        else:
            settled = await self._call(self._source.settle, taken, b"+ACK")
            if settled and document.object is not None:
                await self._clean(taken, partial(self._source.delete_object_of, taken, document.object.name))
        if not settled:
            await self._write_results(taken, results, is_reported=bool(failed))
        elif written:
            await self._clean(taken, partial(self._source.delete_results, taken.name))

    async def _clean(self, taken: TakenMessage, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Delete what a settled message needs no more; if that fails, it is swept later."""
        try:
            await self._call(function)
        except NATSUnavailableError as error:
            _log.warning("%s: settled, but not all is deleted: %s", taken.subject, error)

    async def _fail(self, taken: TakenMessage, payload: bytes, reason: str, *, is_mail: bool = True) -> bool:
        """Publish what cannot be delivered under the failure subject, and terminate the message.

        Return whether the server has confirmed that.

        :raises PublishError: if it cannot be stored there.
        """
        await self._store_failure(taken, payload, reason, is_mail=is_mail)
        return await self._call(self._source.settle, taken, b"+TERM")

    async def _store_failure(self, taken: TakenMessage, payload: bytes, reason: str, *, is_mail: bool = True) -> None:
        """Publish what cannot be delivered under the failure subject.

        A payload that no node would publish may be too large for the failure subject: its first part is published then.

        :raises PublishError: if mail, or nothing, can be stored there.
        """
        _log.error("%s: not delivered: %s", taken.subject, ascii(reason))
        most, total = self._max_message() - DOCUMENT_SPACE, len(payload)
        may_be_cut = not is_mail or len(taken.payload) > most
        for size in (total, most - DOCUMENT_SPACE, _MIN_PART, 0) if may_be_cut else (total,):
            try:
                await self._publish_failure(taken, payload[:size], _header(reason), total)
                break
            except PublishError as error:
                if not (size and may_be_cut and error.too_large):
                    raise

    async def _publish_failure(self, taken: TakenMessage, payload: bytes, reason: str, total: int) -> None:
        headers = {"Triosmtp-Failure": reason}
        if len(payload) < total:
            headers["Triosmtp-Truncated"] = str(total)
            _log.error("%s: %d of %d octets go to the failure subject", taken.subject, len(payload), total)
        source, subject = self._source, f"{self._settings.failure_subject}.{taken.name}"
        # Each consumer, and each message of this name, has its own failure.
        unique = sha256(f"{taken.name}.{taken.sequence}.{source.consumer}".encode()).hexdigest()[:32]
        publish = partial(source.publish, headers=headers)
        await self._call(publish, subject, payload, f"{unique}.failed", None, source.address.deadline)

    async def _report(self, document: EnvelopeDocument, body: Body, failed: dict[int, RecipientResult]) -> None:
        if self._reports is None:
            return
        recipients = document.envelope.recipients
        strangers = self._settings.report_strangers
        wanted = recipients_to_report(
            document, body.headers(), [recipients[number] for number in failed], strangers=strangers
        )
        pairs = [(recipients[number], each) for number, each in failed.items() if recipients[number] in wanted]
        if not pairs:
            return
        now = datetime.now(UTC)
        content = make_report(document, body.headers(), pairs, hostname=self._settings.hostname, now=now)
        report = Message(
            id=f"{document.id}-report",
            envelope=Envelope(Address.NULL, {}, [Recipient(document.envelope.sender, {})]),
            body=Body(content),
            received=now,
        )
        result = await self._deliver_report(report)
        if not result.is_delivered:
            _log.error("the report about message %s is lost: %s %s", document.id, result.code, ascii(result.text))

    async def _deliver_report(self, report: Message) -> RecipientResult:
        assert self._reports is not None
        try:
            (result,) = await self._reports.deliver_each(report)
        except Exception as error:  # noqa: BLE001 - as above
            return evolve(_FAILED, reason=repr(error))
        return result


async def _decode(payload: bytes) -> StreamMessage:
    """Read a payload; a large one in a thread, because it may take a second.

    :raises EnvelopeError: if it is malformed.
    """
    if len(payload) <= _INLINE:
        return decode_message(payload)
    return await trio.to_thread.run_sync(decode_message, payload)


def _except(parameters: Mapping[str, str | None], names: set[str]) -> dict[str, str | None]:
    return {name: value for name, value in parameters.items() if name not in names}


def _message(found: StreamMessage, body: Body) -> Message:
    document = found.document
    return Message(
        id=document.id,
        envelope=document.envelope,
        body=body,
        received=document.received,
        variables=document.connection_context,
        message_variables=document.message_context,
    )


def _final(result: RecipientResult) -> RecipientResult:
    """Return the result of a recipient that is not tried again."""
    return result if not result.is_deferred else evolve(_EXPIRED, reason=f"{result.code} {result.text}")


def _only(payload: bytes, failed: dict[int, RecipientResult]) -> bytes:
    """Return a payload with only those recipients."""
    line, _, octets = payload.partition(b"\n")
    document = json.loads(line)
    document["recipients"] = [document["recipients"][number] for number in failed]
    return encode_document(document) + b"\n" + octets


def _reasons(failed: dict[int, RecipientResult]) -> str:
    """Return the result of each recipient that is left, in their order."""
    return "; ".join(f"{each.code} {each.enhanced} {each.text}" for each in failed.values())


def _written(results: dict[int, RecipientResult], sequence: int, longest: int) -> dict[str, Any]:
    """Return results as they are written, with texts of at most ``longest`` characters, and the message's number."""
    written: dict[str, Any] = {_SEQUENCE: sequence}
    for number, each in results.items():
        written[str(number)] = [each.code, each.enhanced, "" if each.is_delivered else each.text[:longest]]
    return written


def _read_results(written: Mapping[str, Any], recipients: int) -> dict[int, RecipientResult]:
    """Return the results that another attempt wrote; malformed ones are as if nothing was written."""
    found = {}
    for key, value in written.items():
        try:
            number, (code, enhanced, text) = int(key), value
        except (ValueError, TypeError):
            continue
        if 0 <= number < recipients and isinstance(code, int) and isinstance(enhanced, str) and isinstance(text, str):
            found[number] = RecipientResult(code, enhanced, text)
    return found


def _age(taken: TakenMessage, received: datetime | None) -> float:
    """Return the seconds since a message was received.  A time after that at which it was stored is wrong."""
    begins = [each for each in (taken.stored, received) if each is not None]
    return (datetime.now(UTC) - min(begins)).total_seconds() if begins else 0.0


def _open_file() -> FileIO:
    return tempfile.TemporaryFile("w+b", buffering=0)


def _examine(file: FileIO) -> tuple[int, str, bytes]:
    """Return size, SHA-256 and head of a file.  It blocks."""
    file.seek(0)
    digest, size, head = sha256(), 0, b""
    while chunk := file.read(256 * 1024):
        digest.update(chunk)
        size += len(chunk)
        head = head or chunk[:_HEAD]
    return size, digest.hexdigest(), head


def _header(text: str) -> str:
    return " ".join(ascii(text).strip("'\"").split())[:_MAX_REASON]
