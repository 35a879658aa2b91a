"""The recipients that exist (Known_Recipients), by the options of the connection and the domain of the recipient."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import trio
from attrs import frozen

from triosmtp.config import DomainScope, Settings
from triosmtp.domain import DomainTable
from triosmtp.recipients.recipient_file import RecipientFile, RecipientFileError
from triosmtp.smtp import Address

__all__ = ["Files", "KnownRecipients"]

Files: TypeAlias = tuple[RecipientFile, ...]

_FIELDS: Final = frozenset({"known_recipients", "recipients_fold_case"})


@cache
def _files() -> "trio.CapacityLimiter":  # made at its first use, as `triosmtp check` does not load trio
    """Return the limiter of threads that check files of recipients.  Each file uses one at most."""
    return trio.CapacityLimiter(2)


@frozen(slots=True)
class KnownRecipients:
    """The recipients that exist, for one resolved set of options.  Without files, every recipient exists."""

    files: Files
    by_domain: DomainTable[Files]
    """The files of Domain scopes instead of these."""

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        domains: Iterable[DomainScope],
        open_file: Callable[[Settings, Path, bool], RecipientFile],
    ) -> "KnownRecipients | None":
        """Return the files that the options name, or None if they name none.

        ``open_file`` is called with the settings that name the file, its path, and whether case is folded.
        """

        def files(known: Settings, folding: Settings) -> Files:
            return tuple(open_file(known, path, folding.recipients_fold_case) for path in known.known_recipients)

        by_domain = DomainTable(
            {
                each.key: files(
                    each.settings if "known_recipients" in each.fields else settings,
                    each.settings if "recipients_fold_case" in each.fields else settings,
                )
                for each in domains
                if not _FIELDS.isdisjoint(each.fields)
            }
        )
        default = files(settings, settings)
        return cls(default, by_domain) if default or any(by_domain.values()) else None

    def every_file(self) -> Iterator[RecipientFile]:
        """Yield each file once."""
        yield from dict.fromkeys(file for files in (self.files, *self.by_domain.values()) for file in files)

    async def contains(self, recipient: Address) -> bool:
        """Return whether a local recipient exists.  Postmaster always does (RFC 5321, section 4.5.1).

        A file that has changed is read first, at most once a second.

        :raises RecipientFileError: if a file could not be read yet, so that the answer is unknown.
        """
        domain = recipient.domain_key
        files = self.by_domain.find(domain)
        if files is None:
            files = self.files
        if not files or recipient.local_part.lower() == "postmaster":
            return True
        for file in files:
            if _files().available_tokens and file.is_due(trio.current_time()):  # else the previous content is used
                await trio.to_thread.run_sync(file.refresh, limiter=_files(), abandon_on_cancel=True)
        if any(file.holds(recipient.local_part, domain) for file in files if file.is_read):
            return True
        for file in files:
            if not file.is_read:
                raise RecipientFileError(f'"{file}": not read yet')
        return False
