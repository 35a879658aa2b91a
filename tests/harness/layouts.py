"""The ways in which tools renew a certificate: what lies where, and by which steps it is replaced."""

import os
import shutil
from pathlib import Path
from typing import ClassVar

import trio


class Layout:
    """Two files under `root`; `put` replaces them as the tool does, with `gap` seconds between certificate and key."""

    name: ClassVar[str]
    certificate_name: ClassVar[str] = "cert.pem"
    key_name: ClassVar[str] = "key.pem"

    def __init__(self, root: Path) -> None:
        self.root = self.home = root
        root.mkdir()

    @property
    def certificate(self) -> Path:
        return self.root / self.certificate_name

    @property
    def key(self) -> Path:
        return self.root / self.key_name

    async def put(self, certificate: bytes, key: bytes, gap: float = 0.0) -> None:
        raise NotImplementedError

    def go_away(self) -> None:
        """Remove the whole folder, as while a disk is not mounted; ``put`` still writes to it."""
        self.root = self.home.with_name(f"{self.home.name}-away")
        self.home.rename(self.root)

    def come_back(self) -> None:
        self.root.rename(self.home)
        self.root = self.home

    def block(self) -> None:
        """Make the certificate unreadable, for root, too: a folder stands in its place."""
        self.certificate.rename(self.root / "aside")
        self.certificate.mkdir()

    def unblock(self) -> None:
        self.certificate.rmdir()
        (self.root / "aside").rename(self.certificate)


class Certbot(Layout):
    """Numbered files in archive/, links to the newest in live/, exchanged one by one and not at once."""

    name = "certbot"
    certificate_name = "live/mx/fullchain.pem"
    key_name = "live/mx/privkey.pem"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "live/mx").mkdir(parents=True)
        (root / "archive/mx").mkdir(parents=True)
        self.number = 0

    async def put(self, certificate: bytes, key: bytes, gap: float = 0.0) -> None:
        self.number += 1
        archive = self.root / "archive/mx"
        for link, content in ((self.certificate, certificate), (self.key, key)):
            new = archive / f"{link.stem}{self.number}.pem"
            new.write_bytes(content)
            link.unlink(missing_ok=True)
            link.symlink_to(Path("../../archive/mx") / new.name)
            if link == self.certificate:
                await trio.sleep(gap)


class AcmeSh(Layout):
    """`cat new > file`: the files stay and are written over."""

    name = "acme.sh"

    async def put(self, certificate: bytes, key: bytes, gap: float = 0.0) -> None:
        self.certificate.write_bytes(certificate)
        await trio.sleep(gap)
        self.key.write_bytes(key)


class Kubernetes(Layout):
    """A new folder, and one link `..data` that is swapped; the old folder is removed."""

    name = "Kubernetes"
    certificate_name = "tls.crt"
    key_name = "tls.key"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.number = 0
        for path in (self.certificate, self.key):
            path.symlink_to(Path("..data") / path.name)

    async def put(self, certificate: bytes, key: bytes, gap: float = 0.0) -> None:
        self.number += 1
        folder = self.root / f"..2026_{self.number}"
        folder.mkdir()
        (folder / self.certificate_name).write_bytes(certificate)
        await trio.sleep(gap)
        (folder / self.key_name).write_bytes(key)
        link = self.root / "..data_tmp"
        link.symlink_to(folder.name)
        link.rename(self.root / "..data")
        shutil.rmtree(self.root / f"..2026_{self.number - 1}", ignore_errors=True)


class StepCA(Layout):
    """Each file written beside and renamed into its place."""

    name = "step-ca"

    async def put(self, certificate: bytes, key: bytes, gap: float = 0.0) -> None:
        for path, content in ((self.certificate, certificate), (self.key, key)):
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(content)
            temporary.rename(path)
            if path == self.certificate:
                await trio.sleep(gap)


class Copy(Layout):
    """`cp new/* .`, by the real one."""

    name = "cp"

    async def put(self, certificate: bytes, key: bytes, gap: float = 0.0) -> None:
        source = self.root / "new"
        source.mkdir(exist_ok=True)
        for path, content in ((self.certificate, certificate), (self.key, key)):
            (source / path.name).write_bytes(content)
            await trio.run_process(["cp", source / path.name, path])
            if path == self.certificate:
                await trio.sleep(gap)


class Slow(Layout):
    """Emptied, then written piece by piece."""

    name = "in place"

    async def put(self, certificate: bytes, key: bytes, gap: float = 0.0) -> None:
        for path, content in ((self.certificate, certificate), (self.key, key)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, content[: len(content) // 2])
                await trio.sleep(gap / 2)
                os.write(descriptor, content[len(content) // 2 :])
            finally:
                os.close(descriptor)


LAYOUTS: tuple[type[Layout], ...] = (Certbot, AcmeSh, Kubernetes, StepCA, Copy, Slow)
