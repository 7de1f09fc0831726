"""One domain's objects: putting, getting, opening them.

Everything above this module speaks of heads, pages and packs; everything
below of names and bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import blake3

from bakflow import errors
from bakflow.store import layout, packs, pages, sealing
from bakflow.store.backends.base import (
    Backend,
    ObjectExists,
    ObjectInfo,
    ObjectMissing,
)

HEAD, PAGE, SESSION, CHECKPOINT = b'H', b'M', b'S', b'C'
_PAGE_DIGEST = 16


class Space:
    """The objects of a domain, and the keys that seal them.

    :param store: the store's id.
    :param name: the domain's name in the store.
    :param master: the domain's master key.
    """

    def __init__(self, backend: Backend, store: str, name: str,
                 master: bytes, params: layout.Params) -> None:
        self.backend = backend
        self.name = name
        self.params = params
        self.id_key = sealing.derive(master, 'chunk id')
        self.pack_key = sealing.derive(master, 'pack')
        self._page_key = sealing.derive(master, 'page digest')
        self._chain_key = sealing.derive(master, 'chain')
        self._place = f'{store}/{name}'.encode()
        self._sealer = sealing.Sealer(sealing.derive(master, 'meta'),
                                      self._place)

    # -- small sealed objects ---------------------------------------------

    def put(self, kind: bytes, name: str, body: bytes) -> None:
        """Seal and put.

        :raises ObjectExists: the name is taken.
        """
        self.backend.put(name, self._sealer.seal(kind, name, body))

    def get(self, kind: bytes, name: str) -> bytes:
        """Get and open.

        :raises StoreCorrupt: missing or damaged.
        """
        try:
            raw = self.backend.get(name)
        except ObjectMissing:
            raise sealing.missing(name) from None
        return self._sealer.open(kind, name, raw)

    def has(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            self.backend.stat(name)
        except ObjectMissing:
            return False
        return True

    def list(self, part: str) -> Iterator[ObjectInfo]:
        """The domain's objects whose names go on with ``part``."""
        return self.backend.list(f'd/{self.name}/{part}')

    # -- pages ------------------------------------------------------------

    def page_digest(self, body: bytes) -> str:
        """What names a page: its keyed digest."""
        return blake3.blake3(body, key=self._page_key).hexdigest(_PAGE_DIGEST)

    def put_page(self, session: str, body: bytes) -> str:
        """Put a page of a session; its name as heads write it.

        A page that this session has put already is read back; if it is
        damaged it is put anew, which harms nobody since the bytes are the
        same.
        """
        page = f'{session}/{self.page_digest(body)}'
        name = layout.page_name(self.name, page)
        try:
            self.put(PAGE, name, body)
        except ObjectExists:
            try:
                self.page(page)
            except errors.StoreCorrupt:
                self.backend.delete(name)
                self.put(PAGE, name, body)
        return page

    def page(self, page: str) -> pages.Page:
        """Read a page.

        :raises StoreCorrupt: missing or damaged.
        """
        return pages.Page(self.page_body(page),
                          layout.page_name(self.name, page),
                          self.params.page // layout.CHUNK)

    def page_body(self, page: str) -> bytes:
        """The unpacked bytes of a page, checked against its name."""
        name = layout.page_name(self.name, page)
        body = self.get(PAGE, name)
        if self.page_digest(body) != page.rpartition('/')[2]:
            raise sealing.corrupt(name, 'it is another page')
        return body

    # -- packs ------------------------------------------------------------

    def pack_bound(self, session: str, seq: int) -> bytes:
        """What the frames of a pack are bound to."""
        return b'\0'.join((packs.MAGIC, self._place, session.encode(),
                           seq.to_bytes(8, 'little')))

    def pack(self, session: str, seq: int) -> packs.Pack:
        """Open a pack, in the newest generation that there is.

        :raises StoreCorrupt: missing or damaged.
        """
        gen = 0
        try:
            return self._open(session, seq, gen)
        except ObjectMissing:
            found = self.newest_gen(session, seq)
        if found is None:
            raise sealing.missing(layout.pack_name(self.name, session, seq))
        try:
            return self._open(session, seq, found)
        except ObjectMissing:
            raise sealing.missing(
                layout.pack_name(self.name, session, seq, found)) from None

    def _open(self, session: str, seq: int, gen: int) -> packs.Pack:
        name = layout.pack_name(self.name, session, seq, gen)
        return packs.open_pack(
            lambda size: self.backend.get(name, -size), name,
            self.pack_key, self.pack_bound(session, seq), gen)

    def newest_gen(self, session: str, seq: int) -> int | None:
        """The highest generation of a pack that is listed."""
        prefix = layout.pack_name(self.name, session, seq)[:-1]
        gens = [int(o.name.rpartition('.')[2])
                for o in self.backend.list(prefix)
                if o.name.rpartition('.')[2].isdigit()]
        return max(gens, default=None)

    def packs_of(self, session: str) -> set[int]:
        """Numbers of the packs that are listed for a session."""
        start = len(f'd/{self.name}/')
        found = (layout.parse_pack(o.name[start:]) for o in
                 self.backend.list(layout.pack_prefix(self.name, session)))
        return {pack[1] for pack in found if pack is not None}

    # -- digests ----------------------------------------------------------

    def segment_digest(self, segment: int, ids: bytes) -> bytes:
        """Digest of a segment: where it is and the ids of its chunks."""
        return blake3.blake3(segment.to_bytes(8, 'little') + ids,
                             key=self._chain_key).digest()

    def chain(self, before: bytes, digest: bytes) -> bytes:
        """Digest of a disk up to and with a segment that is not empty."""
        return blake3.blake3(before + digest, key=self._chain_key).digest()
