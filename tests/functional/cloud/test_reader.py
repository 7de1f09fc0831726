"""The bytes of images come whole, however often the connection is cut."""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import threading
import time

import pytest

from bakflow import errors
from bakflow.cloud import image_source, reader, session, waiting
from bakflow.devcloud import DevCloud
from bakflow.qcow2 import writer
from bakflow.qcow2.layout import Qcow2Error

MIB = 1 << 20


def make_image(cloud: session.Cloud, data: bytes,
               disk_format: str = 'raw') -> waiting.Resource:
    image = cloud.images.create(None, name='i', disk_format=disk_format)
    pieces = [data[i:i + MIB] for i in range(0, len(data), MIB)]
    cloud.images.upload(image.id, pieces, len(data))
    return cloud.images.get(image.id)


def read(source: reader.ImageReader | image_source.RawImageSource
         | image_source.Qcow2ImageSource,
         offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    source.readinto(offset, memoryview(buffer))
    return bytes(buffer)


def ranges(dev: DevCloud) -> list[str | None]:
    return [r.range for r in dev.requests.find('image.download')]


@pytest.fixture(scope='module')
def data() -> bytes:
    return os.urandom(9 * MIB + 123)


def test_sequential_reads_share_one_request(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    with cloud.images.reader(image) as opened:
        assert opened.size == len(data)
        got = b''.join(read(opened, i, min(700_000, len(data) - i))
                       for i in range(0, len(data), 700_000))
    assert got == data
    assert ranges(dev) == [None]


def test_a_cut_stream_goes_on_where_it_was(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    dev.faults.add('cut', on='image.download', after_bytes=3 * MIB + 5)
    dev.faults.add('cut', on='image.download', nth=2, after_bytes=2 * MIB)
    with cloud.images.reader(image) as opened:
        got = b''.join(read(opened, i, min(MIB, len(data) - i))
                       for i in range(0, len(data), MIB))
    assert got == data
    asked = ranges(dev)
    assert asked[0] is None
    starts = [int(str(r).removeprefix('bytes=').removesuffix('-'))
              for r in asked[1:]]
    # Whole megabytes were delivered: the new stream begins behind them, and
    # behind what came of the one that was cut.
    assert 3 * MIB <= starts[0] <= 3 * MIB + 5
    assert starts[0] + MIB < starts[1] <= starts[0] + 2 * MIB
    assert len(asked) == 3


def test_cuts_with_progress_in_between_may_be_many(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    dev.faults.add('cut', on='image.download', after_bytes=MIB, count=30)
    with cloud.images.reader(image) as opened:
        got = b''.join(read(opened, i, min(MIB // 2, len(data) - i))
                       for i in range(0, len(data), MIB // 2))
    assert got == data
    assert len(ranges(dev)) >= 9


def test_without_progress_it_gives_up(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    dev.faults.add('status', on='image.download', status=503, count=None)
    with (cloud.images.reader(image) as opened,
          pytest.raises(errors.CloudUnavailable) as caught):
        read(opened, 0, 10)
    assert len(ranges(dev)) == 6
    assert caught.value.resource == f'image {image.id}'


@pytest.mark.parametrize('fault', [
    {'effect': 'status', 'status': 503}, {'effect': 'status', 'status': 429},
    {'effect': 'drop', 'when': 'before'}, {'effect': 'expire'}], ids=str)
def test_trouble_at_the_start_is_survived(
        dev: DevCloud, cloud: session.Cloud, data: bytes,
        fault: dict[str, object]) -> None:
    image = make_image(cloud, data)
    details = {k: v for k, v in fault.items() if k != 'effect'}
    dev.faults.add(str(fault['effect']), on='image.download', **details)
    with cloud.images.reader(image) as opened:
        assert read(opened, 0, len(data)) == data


def test_a_token_that_dies_between_two_streams(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    dev.faults.add('cut', on='image.download', after_bytes=MIB)
    with cloud.images.reader(image) as opened:
        assert read(opened, 0, 10) == data[:10]
        dev.revoke_tokens()
        assert read(opened, 10, len(data) - 10) == data[10:]


def test_jumps(dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    with cloud.images.reader(image) as opened:
        assert read(opened, 100, 10) == data[100:110]
        # A small gap is skipped, a large one or a step back is not.
        assert read(opened, MIB, 10) == data[MIB:MIB + 10]
        assert read(opened, 5 * MIB, 10) == data[5 * MIB:5 * MIB + 10]
        assert read(opened, 7, 10) == data[7:17]
    assert ranges(dev) == ['bytes=100-', f'bytes={5 * MIB}-', 'bytes=7-']


def test_tables_do_not_disturb_the_stream(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    with cloud.images.reader(image) as opened:
        assert read(opened, 0, MIB) == data[:MIB]
        assert opened.pread(8 * MIB, 100) == data[8 * MIB:8 * MIB + 100]
        assert opened.pread(len(data) - 3, 100) == data[-3:]
        assert opened.pread(len(data), 100) == b''
        assert read(opened, MIB, MIB) == data[MIB:2 * MIB]
        dev.faults.add('cut', on='image.download', after_bytes=50)
        assert opened.pread(MIB, 100) == data[MIB:MIB + 100]
    assert ranges(dev) == [
        None, f'bytes={8 * MIB}-{8 * MIB + 99}',
        f'bytes={len(data) - 3}-{len(data) - 1}',
        f'bytes={MIB}-{MIB + 99}', f'bytes={MIB}-{MIB + 99}']


def test_random_reads(dev: DevCloud, cloud: session.Cloud, data: bytes
                      ) -> None:
    image = make_image(cloud, data)
    chance = random.Random(7)
    dev.faults.add('cut', on='image.download', after_bytes=200_000, count=9)
    with cloud.images.reader(image) as opened:
        for _ in range(40):
            offset = chance.randrange(len(data))
            length = chance.randrange(min(300_000, len(data) - offset))
            assert read(opened, offset, length) == data[
                offset:offset + length]


def test_an_image_deleted_in_mid_read(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    dev.faults.add('cut', on='image.download', after_bytes=MIB)
    with cloud.images.reader(image) as opened:
        read(opened, 0, 10)
        dev.remove(image.id)
        with pytest.raises(errors.ResourceVanished) as caught:
            read(opened, 10, 5 * MIB)
    assert caught.value.resource == f'image {image.id}'


@pytest.mark.parametrize('change', ['hash', 'size', 'status'])
def test_another_image_under_the_same_id(
        dev: DevCloud, cloud: session.Cloud, data: bytes,
        change: str) -> None:
    image = make_image(cloud, data)
    dev.faults.add('cut', on='image.download', after_bytes=MIB)
    with cloud.images.reader(image) as opened:
        read(opened, 0, 10)
        record = dev.image(image.id)
        if change == 'hash':
            record.os_hash_value = hashlib.sha512(b'').hexdigest()
        elif change == 'size':
            record.size += 1
        else:
            record.status = 'deactivated'
        with pytest.raises(errors.SourceChanged):
            read(opened, 10, 5 * MIB)


def test_beyond_the_end(cloud: session.Cloud, dev: DevCloud) -> None:
    image = make_image(cloud, b'x' * 1000)
    with (cloud.images.reader(image) as opened,
          pytest.raises(errors.SourceChanged)):
        read(opened, 900, 101)
    queued = cloud.images.create(None, name='i', disk_format='raw')
    with pytest.raises(errors.ResourceFailed):
        cloud.images.reader(queued)


def test_a_read_that_waits_can_be_cancelled(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    held = dev.faults.add('hold', on='image.download', when='body',
                          after_bytes=MIB)
    opened = cloud.images.reader(image)

    def cancel() -> None:
        held.wait_held()
        opened.cancel()

    threading.Thread(target=cancel).start()
    begin = time.monotonic()
    with pytest.raises(errors.Interrupted):
        read(opened, 0, len(data))
    # Sooner than the request would time out (3 s here).
    assert time.monotonic() - begin < 2.5
    with pytest.raises(errors.Interrupted):
        read(opened, 0, 1)
    opened.close()


def test_a_stream_that_stands_still_is_opened_again(
        dev: DevCloud, cloud: session.Cloud, data: bytes) -> None:
    image = make_image(cloud, data)
    cloud.images._glance.adapter.session.timeout = 0.3
    dev.faults.add('hold', on='image.download', when='body',
                   after_bytes=5 * MIB)
    with cloud.images.reader(image) as opened:
        assert read(opened, 0, len(data)) == data
    assert len(ranges(dev)) == 2


# -- sources --------------------------------------------------------------

def disk() -> tuple[bytes, list[tuple[int, int]]]:
    data = bytearray(20 * MIB)
    extents = [(0, 70_000), (3 * MIB, 2 * MIB), (15 * MIB + 77, 300_000),
               (20 * MIB - 512, 512)]
    for offset, length in extents:
        data[offset:offset + length] = os.urandom(length)
    return bytes(data), extents


def whole(source: image_source.RawImageSource
          | image_source.Qcow2ImageSource, start: int = 0,
          step: int = 900_001) -> bytes:
    out, at = bytearray(), start
    for offset, length, has_data in source.extents(start):
        assert offset == at
        at += length
        if not has_data:
            out += bytes(length)
            continue
        while length:
            count = min(step, length)
            buffer = bytearray(count)
            source.readinto(offset, memoryview(buffer))
            out += buffer
            offset += count
            length -= count
    assert at == source.size
    return bytes(out)


def test_a_raw_image_as_source(dev: DevCloud, cloud: session.Cloud) -> None:
    data, _ = disk()
    image = make_image(cloud, data)
    source = image_source.RawImageSource(cloud.images.reader(image))
    assert source.size == len(data)
    assert whole(source) == data
    assert whole(source, 12345) == data[12345:]
    assert list(source.extents(source.size)) == []
    source.close()


def test_a_qcow2_image_as_source(dev: DevCloud, cloud: session.Cloud
                                 ) -> None:
    data, extents = disk()
    image = make_image(cloud, b''.join(writer.stream(
        len(data), extents, lambda o, n: data[o:o + n])), 'qcow2')
    dev.faults.add('cut', on='image.download', after_bytes=MIB, count=3,
                   nth=3)
    source = image_source.Qcow2ImageSource(cloud.images.reader(image))
    assert source.size == len(data)
    assert whole(source) == data
    assert read(source, 2 * MIB, 2 * MIB) == data[2 * MIB:4 * MIB]
    source.close()
    for start in (1, 3 * MIB + 9, 16 * MIB, len(data)):
        source = image_source.Qcow2ImageSource(cloud.images.reader(image))
        assert whole(source, start) == data[start:]
        source.close()


@pytest.mark.skipif(
    shutil.which('qemu-img') is None,
    reason='NOT CHECKED AGAINST QEMU: qemu-img is missing (qemu-utils)')
def test_a_qcow2_image_of_qemu_as_source(
        dev: DevCloud, cloud: session.Cloud, tmp_path: pathlib.Path) -> None:
    data, _ = disk()
    raw, path = tmp_path / 'raw', tmp_path / 'qcow2'
    raw.write_bytes(data)
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw,
                    path], check=True)
    image = make_image(cloud, path.read_bytes(), 'qcow2')
    source = image_source.Qcow2ImageSource(cloud.images.reader(image))
    dev.requests.clear()
    assert whole(source) == data
    # The data lies in order: one stream, and the tables beside it.
    streams = [r for r in ranges(dev) if r is None or r.endswith('-')]
    assert len(streams) == 1
    source.close()


@pytest.mark.skipif(
    shutil.which('qemu-img') is None,
    reason='NOT CHECKED AGAINST QEMU: qemu-img is missing (qemu-utils)')
def test_a_compressed_image_as_source(
        dev: DevCloud, cloud: session.Cloud, tmp_path: pathlib.Path) -> None:
    """What Cinder makes: clusters packed one behind the other, and such
    that do not shrink in between."""
    data = bytearray(60 * MIB + 512)
    chance = random.Random(5)
    for at in range(0, 40 * MIB, 2 * MIB):
        data[at:at + MIB] = os.urandom(MIB // 2).hex().encode()
        count = chance.randrange(0, MIB)
        data[at + MIB:at + MIB + count] = chance.randbytes(count)
    data[-512:] = os.urandom(512)
    raw, path = tmp_path / 'raw', tmp_path / 'qcow2'
    raw.write_bytes(data)
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-c',
                    raw, path], check=True)
    image = make_image(cloud, path.read_bytes(), 'qcow2')
    dev.requests.clear()
    source = image_source.Qcow2ImageSource(cloud.images.reader(image))
    assert whole(source) == data
    streams = [r for r in ranges(dev) if r is None or r.endswith('-')]
    assert len(streams) == 1
    assert read(source, 3 * MIB, 2 * MIB) == data[3 * MIB:5 * MIB]
    source.close()
    dev.faults.add('cut', on='image.download', after_bytes=3 * MIB, count=4,
                   nth=4)
    source = image_source.Qcow2ImageSource(cloud.images.reader(image))
    assert whole(source, 5 * MIB + 3, step=1_111_111) == data[5 * MIB + 3:]
    source.close()


def test_a_qcow2_image_that_is_none(cloud: session.Cloud, dev: DevCloud
                                    ) -> None:
    image = make_image(cloud, b'x' * 5000)
    with pytest.raises(Qcow2Error):
        image_source.Qcow2ImageSource(cloud.images.reader(image))


def test_the_source_that_fits(dev: DevCloud, cloud: session.Cloud) -> None:
    data, extents = disk()
    qcow2 = make_image(cloud, b''.join(writer.stream(
        len(data), extents, lambda o, n: data[o:o + n])), 'qcow2')
    for image in (qcow2, make_image(cloud, data)):
        with cloud.images.reader(image) as opened:
            source = image_source.open_source(opened, len(data))
            assert read(source, MIB, 3 * MIB) == data[MIB:4 * MIB]
        with (cloud.images.reader(image) as opened,
              pytest.raises(errors.ResourceFailed, match='the volume has')):
            image_source.open_source(opened, len(data) + 512)


# -- sending --------------------------------------------------------------

def test_what_is_sent_is_there(dev: DevCloud, cloud: session.Cloud,
                               data: bytes) -> None:
    image = make_image(cloud, data)
    assert image.status == 'active'
    assert image.size_bytes == len(data)
    assert image.details['os_hash_value'] == hashlib.sha512(
        data).hexdigest()


def test_a_cut_while_sending(dev: DevCloud, cloud: session.Cloud) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')
    dev.faults.add('drop', on='image.upload')
    with pytest.raises(errors.CloudUnavailable):
        cloud.images.upload(image.id, [bytes(MIB)] * 8, 8 * MIB)
    assert len(dev.requests.find('image.upload')) == 1


def test_a_token_that_dies_before_sending(
        dev: DevCloud, cloud: session.Cloud) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')
    dev.revoke_tokens()
    cloud.images.upload(image.id, [b'x' * 1000], 1000)
    assert cloud.images.get(image.id).status == 'active'


def test_a_token_that_dies_while_sending(
        dev: DevCloud, cloud: session.Cloud) -> None:
    """The body is not sent twice: its iterator is used up."""
    image = cloud.images.create(None, name='i', disk_format='raw')
    dev.faults.add('expire', on='image.upload')
    with pytest.raises(errors.CloudUnavailable):
        cloud.images.upload(image.id, iter([b'x' * 1000]), 1000)
    assert len(dev.requests.find('image.upload')) == 1
    cloud.images.upload(image.id, [b'x' * 1000], 1000)
    assert cloud.images.get(image.id).status == 'active'


def test_content_that_is_refused(dev: DevCloud, cloud: session.Cloud
                                 ) -> None:
    """A FAT boot sector is no raw image to Glance."""
    sector = bytearray(MIB)
    sector[510:512] = b'\x55\xaa'
    image = cloud.images.create(None, name='i', disk_format='raw')
    with pytest.raises(errors.ImageRefused) as caught:
        cloud.images.upload(image.id, [bytes(sector)], MIB)
    assert 'qcow2' in str(caught.value.hint)


def test_an_image_gone_before_sending(dev: DevCloud, cloud: session.Cloud
                                      ) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')
    dev.remove(image.id)
    with pytest.raises(errors.ImageRefused):
        cloud.images.upload(image.id, [b'x'], 1)


def test_a_source_that_fails_stops_the_sending(
        dev: DevCloud, cloud: session.Cloud) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')

    def pieces():      # type: ignore[no-untyped-def]
        yield bytes(MIB)
        raise errors.StoreCorrupt('a chunk is damaged')

    with pytest.raises(errors.StoreCorrupt):
        cloud.images.upload(image.id, pieces(), 3 * MIB)
    assert cloud.images.get(image.id).status != 'active'


def test_a_wrong_total_is_noticed(dev: DevCloud, cloud: session.Cloud
                                  ) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')
    with pytest.raises(ValueError, match='announced'):
        cloud.images.upload(image.id, [b'x' * 10], 11)
