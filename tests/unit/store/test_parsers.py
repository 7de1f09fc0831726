"""Hostile objects: an error that names the object, nothing worse.

The bodies are what comes out of the seal, so only who has the key could make
them; they must do no harm all the same.
"""

import os
import struct
import time
from array import array

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bakflow import errors
from bakflow.store import heads, layout, packs, pages, records, sealing
from bakflow.store.layout import ZERO_REF

LIMIT = 4096


def read_page(body):
    page = pages.Page(body, 'the-page', LIMIT)
    return list(page.runs(pages.Sessions('')))


def survives(parse, body, name):
    """The parser gives an answer or StoreCorrupt with the name, quickly."""
    begin = time.monotonic()
    try:
        parse(body)
    except errors.StoreCorrupt as exc:
        assert name in str(exc)     # noqa: PT017 - both ends are right
    assert time.monotonic() - begin < 5


def valid_page():
    sessions = pages.Sessions('own.1')
    other = sessions.number('other.2')
    writer = pages.PageWriter(sessions)
    for length, ref in [
            (5, ZERO_REF), (7, layout.make_ref(0, 3, 1)),
            (1, layout.make_ref(other, 70000, 60000)),
            (2, layout.make_ref(0, 3, 8)), (100, ZERO_REF)]:
        writer.add(length, ref)
    return writer.dump()


@st.composite
def mangled(draw, good):
    """Bytes near to a valid body, or nothing like it."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.binary(max_size=300))
    out = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        kind = draw(st.sampled_from(['set', 'cut', 'insert', 'huge']))
        if kind == 'set' and out:
            out[at] = draw(st.integers(0, 255))
        elif kind == 'cut':
            del out[at:at + draw(st.integers(1, 20))]
        elif kind == 'insert':
            out[at:at] = draw(st.binary(min_size=1, max_size=12))
        else:
            out[at:at] = b'\xff' * draw(st.integers(1, 10)) + b'\x01'
    return bytes(out)


@settings(max_examples=400, deadline=None)
@given(body=mangled(valid_page()))
def test_pages(body):
    survives(read_page, body, 'the-page')


def footer_body(frames, ids):
    return b''.join((struct.pack('<II', len(frames), len(ids) // 16),
                     *(struct.pack('<IHH', *f) for f in frames), ids))


@settings(max_examples=400, deadline=None)
@given(body=mangled(footer_body([(2000, 3, 1), (90000, 5, 0)], bytes(128))))
def test_footers(body):
    survives(lambda b: packs.Footer(b, 'the-pack'), body, 'the-pack')


@settings(max_examples=300, deadline=None)
@given(tail=st.binary(max_size=200))
def test_pack_tails(tail):
    for end in (b'', packs.MAGIC):
        survives(lambda b: packs.open_pack(
            lambda size: b[-size:], 'the-pack', bytes(32), b'', 0),
            tail + end, 'the-pack')


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats()
    | st.text(max_size=20) | st.sampled_from(['f.1', 'f.1/' + 'a' * 32]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(['size', 'pages', 'chain', 'disks', 'packs',
                         'position', 'partial', 'state', 'f.1']),
        inner, max_size=6), max_leaves=15)

HEAD = {'backup': 'b', 'created': 1.0, 'parent': None, 'session': 'f.1',
        'document': {}, 'digest': '', 'read': 0, 'skipped': 0, 'new': 0,
        'stored': 0, 'disks': [{'size': 5, 'pages': [None],
                                'chain': '00' * 32}]}
RECORD = {'session': 'f.1', 'backup': 'b', 'created': 1.0, 'parent': None,
          'base': [{'size': 5, 'pages': [None], 'chain': '00' * 32}],
          'adopted': ['f.0'], 'pins': ['f.0/' + 'a' * 32], 'state': {
              'disks': [{'size': 5, 'position': 0, 'pages': [],
                         'partial': 0, 'chain': '00' * 32, 'read': 0,
                         'skipped': 0, 'new': 0, 'stored': 0}],
              'packs': {'f.0': [[0, 5]]}}}


@st.composite
def changed(draw, good):
    """Valid JSON with one value, at any depth, replaced."""
    def change(value):
        if isinstance(value, dict) and value and draw(st.booleans()):
            key = draw(st.sampled_from(sorted(value)))
            return {**value, key: change(value[key])}
        if isinstance(value, list) and value and draw(st.booleans()):
            return [change(value[0]), *value[1:]]
        return draw(JSONISH)
    return change(good)


@settings(max_examples=300, deadline=None)
@given(data=changed(HEAD))
def test_heads(data):
    survives(lambda b: heads.parse_head(b, 'd/x/b/b/f.1'),
             layout.dump_json(data), 'd/x/b/b/f.1')


@settings(max_examples=300, deadline=None)
@given(data=changed(RECORD), blob=st.binary(max_size=4))
def test_records(data, blob):
    survives(lambda b: records.parse_record(b, 'the-session'),
             sealing.pair(data, blob), 'the-session')


@settings(max_examples=200, deadline=None)
@given(body=mangled(sealing.pair(RECORD, b'')))
def test_record_bytes(body):
    survives(lambda b: records.parse_record(b, 'the-session'), body,
             'the-session')


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200))
def test_sealed_objects(raw):
    sealer = sealing.Sealer(bytes(32), b'place')
    for start in (b'', sealing.MAGIC + b'H'):
        with pytest.raises(errors.StoreCorrupt, match='the-name'):
            sealer.open(b'H', 'the-name', start + raw)


def test_what_unpacks_to_too_much_is_not_unpacked():
    bomb = zstandard.ZstdCompressor().compress(bytes(200 << 20))
    with pytest.raises(errors.StoreCorrupt, match='the-name'):
        sealing.unpack(bomb, 1 << 20, 'the-name')
    # One that does not tell its size.
    stream = zstandard.ZstdCompressor().compressobj()
    hidden = stream.compress(bytes(50 << 20)) + stream.flush()
    with pytest.raises(errors.StoreCorrupt, match='the-name'):
        sealing.unpack(hidden, 1 << 20, 'the-name')


def test_a_page_of_many_packs_is_bounded():
    """A header that claims all packs there can be."""
    out = bytearray()
    pages.put_varint(out, LIMIT)
    pages.put_varint(out, 1)
    pages.put_varint(out, 3)
    out += b'f.1'
    pages.put_varint(out, 1)
    pages.put_varint(out, 0)
    pages.put_varint(out, 1 << 32)
    survives(read_page, bytes(out), 'the-page')
    with pytest.raises(errors.StoreCorrupt):
        read_page(bytes(out))


@settings(max_examples=200, deadline=None)
@given(runs=st.lists(st.tuples(
    st.integers(1, 50), st.one_of(st.none(), st.tuples(
        st.integers(0, 3), st.sampled_from([0, 1, 2, 77, 1 << 31]),
        st.integers(0, 8000)))), max_size=40), cut=st.integers(0, 40))
def test_pages_come_back_and_are_canonical(runs, cut):
    """However a page came to be, the same references give the same bytes."""
    sessions = pages.Sessions('s0.1')
    for number in range(1, 4):
        sessions.number(f's{number}.1')
    refs = [(n, ZERO_REF if where is None else layout.make_ref(*where))
            for n, where in runs]
    writer = pages.PageWriter(sessions)
    for length, ref in refs:
        writer.add(length, ref)
    body = writer.dump()

    def expand(found):
        return [ZERO_REF if ref == ZERO_REF else ref + at
                for length, ref in found for at in range(length)]

    found = list(pages.Page(body, 'p', LIMIT).runs(sessions))
    assert expand(found) == expand(refs)
    # Chunk by chunk, and with a dump and a load in between.
    single = pages.PageWriter(sessions)
    for at, ref in enumerate(expand(refs)):
        if at == cut:
            single = pages.load(single.dump(), 'p', LIMIT, sessions)
        single.dump()
        single.add(1, ref)
    assert single.dump() == body
    if refs:
        again = pages.runs_of(array('Q', expand(refs)))
        assert list(zip(again[::2], again[1::2], strict=True)) == found


def test_random_bytes_as_a_page_do_not_hang():
    for _ in range(200):
        survives(read_page, os.urandom(500), 'the-page')
