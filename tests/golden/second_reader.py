"""A second reader of format 1, written from doc/store-format.rst alone.

It shares no code with bakflow.store. What it can restore, the document
describes. Usage: ``second_reader.py STORE KEYFILE`` lists what is there with
the SHA-256 of each disk.
"""

import base64
import hashlib
import json
import struct
import sys
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK, PER_SEGMENT = 16384, 256
NONE = bytes(16)


def derive(secret, purpose):
    return blake3(secret, derive_key_context='bakflow store 1 '
                  + purpose).digest()


def to_json(data):
    return json.dumps(data, sort_keys=True, separators=(',', ':'),
                      ensure_ascii=False).encode()


def unseal(raw, kind, place, name, key):
    assert raw[:5] == b'BKF1' + kind
    cipher = AESGCM(blake3(raw[5:37], key=key).digest())
    bound = b'\0'.join((b'BKF1', kind, place, name.encode()))
    body = cipher.decrypt(bytes(12), raw[37:], bound)
    return zstandard.ZstdDecompressor().decompress(body)


class Numbers:
    """Varints and zigzags."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, count):
        self.at += count
        return self.data[self.at - count:self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.bytes(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def zigzag(self):
        value = self.varint()
        return value >> 1 if value % 2 == 0 else -(value + 1) // 2


class Domain:
    def __init__(self, root, store, name, domain_key):
        self.root, self.name = root, name
        path = f'k/{name}/0'
        info = json.loads(unseal((root / path).read_bytes(), b'K',
                                 store.encode(), path, domain_key))
        self.project, self.page = info['project'], info['page']
        master = bytes.fromhex(info['master'])
        self.place = f'{store}/{name}'.encode()
        self.meta, self.pack_key = derive(master, 'meta'), derive(
            master, 'pack')
        self.id_key, self.chain_key = derive(master, 'chunk id'), derive(
            master, 'chain')
        self.page_key = derive(master, 'page digest')
        self.packs = {}

    def sealed(self, kind, part):
        name = f'd/{self.name}/{part}'
        return unseal((self.root / name).read_bytes(), kind, self.place,
                      name, self.meta)

    def heads(self):
        """Of each backup the head with the highest epoch."""
        for backup in sorted((self.root / 'd' / self.name / 'b').iterdir()):
            session = max((p.name for p in backup.iterdir()),
                          key=lambda s: int(s.rpartition('.')[2]))
            yield json.loads(self.sealed(b'H', f'b/{backup.name}/{session}'))

    def runs(self, page):
        """(chunks, None) or (chunks, (session, pack, slot))."""
        body = self.sealed(b'M', 'm/' + page)
        assert page.endswith(blake3(body, key=self.page_key).hexdigest(16))
        numbers = Numbers(body)
        left = numbers.varint()
        sessions = []
        for _ in range(numbers.varint()):
            sessions.append(numbers.bytes(numbers.varint()).decode())
            for _ in range(numbers.varint()):
                numbers.varint(), numbers.varint()
        last = {session: [0, 0] for session in sessions}
        while left:
            run = numbers.varint()
            left -= run >> 1
            if not run & 1:
                yield run >> 1, None
                continue
            session = sessions[numbers.varint()]
            where = last[session]
            pack = where[0] + numbers.zigzag()
            slot = (where[1] + numbers.zigzag() if pack == where[0]
                    else numbers.varint())
            last[session] = [pack, slot + (run >> 1)]
            yield run >> 1, (session, pack, slot)

    def chunks(self, session, seq):
        """All chunks of a pack, by slot."""
        if (session, seq) in self.packs:
            return self.packs[session, seq]
        hh = blake3(session.encode()).hexdigest()[:2]
        folder = self.root / 'd' / self.name / 'p' / hh / session
        path = max(folder.glob(f'{seq:08x}.*'),
                   key=lambda p: int(p.suffix[1:]))
        raw = path.read_bytes()
        salt, length, magic = struct.unpack('<32sI8s', raw[-44:])
        assert magic == b'BKFPACK1'
        cipher = AESGCM(blake3(salt, key=self.pack_key).digest())
        bound = b'\0'.join((b'BKFPACK1', self.place, session.encode(),
                            seq.to_bytes(8, 'little')))
        nonce = (2 ** 95 + int(path.suffix[1:])).to_bytes(12, 'little')
        footer = cipher.decrypt(nonce, raw[-44 - length:-44], bound)
        frames, slots = struct.unpack_from('<II', footer)
        out, at = [], 0
        for number in range(frames):
            stored, count, flags = struct.unpack_from(
                '<IHH', footer, 8 + 8 * number)
            if stored:
                body = cipher.decrypt(number.to_bytes(12, 'little'),
                                      raw[at:at + stored], bound)
                if flags & 1:
                    body = zstandard.ZstdDecompressor().decompress(body)
                out += [body[n * CHUNK:(n + 1) * CHUNK]
                        for n in range(count)]
            else:
                out += [None] * count
            at += stored
        ids = footer[8 + 8 * frames:]
        for slot in range(slots):
            if out[slot] is not None:
                assert ids[slot * 16:slot * 16 + 16] == blake3(
                    out[slot], key=self.id_key).digest(16)
        self.packs[session, seq] = out
        return out

    def chunk_id(self, chunk):
        if not chunk.strip(b'\0'):
            return NONE
        return blake3(chunk, key=self.id_key).digest(16)

    def disk(self, disk):
        """All bytes of a disk of a head, its chain checked."""
        out = bytearray()
        for number, page in enumerate(disk['pages']):
            rest = min(self.page, disk['size'] - number * self.page)
            if page is None:
                out += bytes(-(-rest // CHUNK) * CHUNK)
                continue
            for count, where in self.runs(page):
                if where is None:
                    out += bytes(count * CHUNK)
                else:
                    session, seq, slot = where
                    out += b''.join(
                        self.chunks(session, seq)[slot:slot + count])
        chain = bytes(32)
        size = CHUNK * PER_SEGMENT
        for number in range(-(-len(out) // size)):
            part = bytes(out[number * size:(number + 1) * size])
            ids = b''.join(self.chunk_id(part[at:at + CHUNK])
                           for at in range(0, len(part), CHUNK))
            if any(ids):
                digest = blake3(number.to_bytes(8, 'little') + ids,
                                key=self.chain_key).digest()
                chain = blake3(chain + digest, key=self.chain_key).digest()
        assert chain.hex() == disk['chain']
        return bytes(out[:disk['size']])


def open_store(root, key_file):
    """The store's marker and its domains."""
    root = Path(root)
    first, digits = Path(key_file).read_text().split()
    assert first == 'bakflow-key-1'
    kek = bytes.fromhex(digits)
    marker = json.loads((root / 'bakflow.json').read_text())
    assert marker['format'] == 1
    assert marker['key'] == derive(kek, 'kek fingerprint')[:8].hex()
    sealed = base64.b64decode(marker.pop('secret'))
    secret = unseal(sealed, b'R', to_json(marker), 'bakflow.json',
                    derive(kek, 'kek marker'))
    domains = [Domain(root, marker['store'], path.name,
                      derive(kek, 'kek domain key'))
               for path in sorted((root / 'k').iterdir())]
    for domain in domains:
        assert domain.name == blake3(
            domain.project.encode(),
            key=derive(secret, 'domain name')).hexdigest(16)
    return marker, domains


if __name__ == '__main__':
    for domain in open_store(sys.argv[1], sys.argv[2])[1]:
        for head in domain.heads():
            for number, disk in enumerate(head['disks']):
                print(domain.project, head['backup'], number,
                      hashlib.sha256(domain.disk(disk)).hexdigest())
