"""Names, sizes and numbers of the store's format, in one place.

Every object is immutable. Names hold the session that wrote them, so that no
two writers ever write under one name (doc/store-format.rst says why).
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import blake3

from bakflow import errors

FORMAT = 1
MARKER = 'bakflow.json'

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

CHUNK = 16 * KIB        #: bytes named by one id; the unit of sharing
SEGMENT = 4 * MIB       #: bytes read at once; a frame never leaves one
ID = 16                 #: bytes of a chunk's id
PER_SEGMENT = SEGMENT // CHUNK
ZERO_ID = bytes(ID)     #: stands for a chunk of zeros, which is not stored

#: A reference to a stored chunk: session index, pack number, slot.
SLOT_BITS = 16
SEQ_BITS = 32
ZERO_REF = (1 << 64) - 1
MAX_SESSIONS = 0xFFFF
MAX_SEQ = (1 << SEQ_BITS) - 1

_WORD = r'[A-Za-z0-9][A-Za-z0-9_-]{0,99}'
_BACKUP = re.compile(_WORD)
_SESSION = re.compile(_WORD + r'\.[0-9]{1,18}')
_PACK = re.compile(r'p/[0-9a-f]{2}/([^/]+)/([0-9a-f]{8})\.([0-9]{1,9})')


@dataclasses.dataclass(frozen=True)
class Params:
    """The sizes that a domain was made with; kept in its key object.

    ``pack``, ``frame`` and ``slots`` only guide the writer, a reader takes
    what the footers say. ``page`` is the address space, in bytes, that one
    manifest page describes.
    """

    frame: int = MIB
    pack: int = 32 * MIB
    slots: int = 8192
    page: int = 64 * GIB
    level: int = 1

    def __post_init__(self) -> None:
        ok = (CHUNK <= self.frame <= SEGMENT and self.frame % CHUNK == 0
              and 2 * self.frame <= self.pack <= 256 * MIB
              and self.frame // CHUNK <= self.slots < 1 << SLOT_BITS
              and SEGMENT <= self.page <= 1 << 40
              and self.page % SEGMENT == 0 and -7 <= self.level <= 19)
        if not ok:
            raise errors.StoreCorrupt(f'the sizes {self} make no sense')


def make_ref(session: int, seq: int, slot: int) -> int:
    """The reference to the chunk in a slot of a pack."""
    return session << 48 | seq << SLOT_BITS | slot


def ref_seq(ref: int) -> int:
    """The number of the pack that a reference points into."""
    return ref >> SLOT_BITS & MAX_SEQ


def check_backup(name: str) -> str:
    """The backup's id, if it may be part of a name.

    :raises InvalidRequest: it may not.
    """
    if not _BACKUP.fullmatch(name):
        raise errors.InvalidRequest(f'{name!r} is no id of a backup')
    return name


def check_session(name: str) -> str:
    """The session's name, if it has the form ``<flow id>.<epoch>``.

    :raises InvalidRequest: it has not.
    """
    if not _SESSION.fullmatch(name):
        raise errors.InvalidRequest(
            f'{name!r} is no session, which is a flow id, a dot, an epoch')
    return name


def flow_of(session: str) -> str:
    """``'<flow id>.'`` of a session: what all sessions of a flow share."""
    return session.rpartition('.')[0] + '.'


def epoch_of(session: str) -> int:
    """The epoch of a session; a later owner of a flow has a higher one."""
    return int(session.rpartition('.')[2])


def key_name(domain: str) -> str:
    """Name of the object that holds a domain's master key."""
    return f'k/{domain}/0'


def head_name(domain: str, backup: str, session: str) -> str:
    """Name of a head: each session has one of its own."""
    return f'd/{domain}/b/{backup}/{session}'


def session_prefix(domain: str, session: str) -> str:
    """Prefix of the session object and the checkpoints of a session."""
    return f'd/{domain}/s/{session}/'


def session_name(domain: str, session: str, seq: int = 0) -> str:
    """Name of the session object (0) or of a checkpoint (1 and up)."""
    return f'd/{domain}/s/{session}/{seq:08d}'


def page_name(domain: str, page: str) -> str:
    """Name of a manifest page, given as ``<session>/<digest>``."""
    return f'd/{domain}/m/{page}'


def pack_prefix(domain: str, session: str) -> str:
    """Prefix of a session's packs; two hex digits spread the folders."""
    hh = blake3.blake3(session.encode()).hexdigest()[:2]
    return f'd/{domain}/p/{hh}/{session}/'


def pack_name(domain: str, session: str, seq: int, gen: int = 0) -> str:
    """Name of a pack; a compacted one has a higher ``gen``."""
    return f'{pack_prefix(domain, session)}{seq:08x}.{gen}'


def parse_pack(rest: str) -> tuple[str, int, int] | None:
    """Session, number and generation from ``p/<hh>/…``; None: no pack."""
    found = _PACK.fullmatch(rest)
    if found is None or not _SESSION.fullmatch(found[1]):
        return None
    return found[1], int(found[2], 16), int(found[3])


def is_session(name: str) -> bool:
    """Whether a part of a name is a session's."""
    return _SESSION.fullmatch(name) is not None


def chunks(size: int) -> int:
    """How many chunks a disk of ``size`` bytes has; the last may be short."""
    return -(-size // CHUNK)


def segments(size: int) -> int:
    """How many segments a disk of ``size`` bytes has."""
    return -(-size // SEGMENT)


def dump_json(data: Any) -> bytes:
    """The one spelling of ``data`` that the store uses."""
    return json.dumps(data, sort_keys=True, separators=(',', ':'),
                      ensure_ascii=False).encode('utf-8', 'surrogatepass')


def load_json(raw: bytes, name: str) -> dict[str, Any]:
    """The object in ``raw``.

    :raises StoreCorrupt: it is none; the error names the object ``name``.
    """
    hint = 'Put the object back from a copy of the target, if there is one.'
    try:
        data = json.loads(raw.decode('utf-8', 'surrogatepass'))
    except (ValueError, RecursionError) as exc:
        raise errors.StoreCorrupt(f'{name} holds no JSON: {exc}', hint=hint,
                                  resource=f'object {name}') from exc
    if not isinstance(data, dict):
        raise errors.StoreCorrupt(f'{name} holds no JSON object', hint=hint,
                                  resource=f'object {name}')
    return data
