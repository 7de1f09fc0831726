"""What the services say, in their own words, and what it means.

The words are those of Cinder 29, Glance 33 and Keystone 30.
"""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import pathlib
import ssl
import threading
from collections.abc import Iterator

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bakflow import errors
from bakflow.cloud import errors as cloud_errors
from bakflow.cloud import rest, session

from .conftest import make_conf

VOLUME = '00000000-0000-0000-0000-000000000001'


def answer(status: int, text: str, kind: str = 'application/json'
           ) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = text.encode()
    made.headers['Content-Type'] = kind
    made.headers['x-openstack-request-id'] = 'req-1'
    made.url = 'http://127.0.0.1/v3'
    return made


def cinder(status: int, message: str) -> requests.Response:
    return answer(status, json.dumps(
        {'anyKey': {'code': status, 'message': message}}))


def glance(status: int, message: str) -> requests.Response:
    return answer(
        status, f'<html>\n <head>\n  <title>{status} Something</title>\n'
        f' </head>\n <body>\n  <h1>{status} Something</h1>\n  {message}'
        f'<br /><br />\n\n\n\n </body>\n</html>', 'text/html; charset=UTF-8')


@pytest.mark.parametrize(('said', 'creating', 'error'), [
    (cinder(413, 'VolumeLimitExceeded: Maximum number of volumes allowed '
            "(100) exceeded for quota 'volumes'."), True,
     errors.QuotaReached),
    (cinder(413, 'SnapshotLimitExceeded: Maximum number of snapshots '
            'allowed (100) exceeded'), True, errors.QuotaReached),
    (glance(413, 'Image exceeds the storage quota'), False,
     errors.QuotaReached),
    (glance(403, 'Quota exceeded for image_count'), True,
     errors.QuotaReached),
    (cinder(403, "Policy doesn't allow volume:create to be performed."),
     True, errors.CloudRefused),
    (glance(403, 'Image 1 is protected and cannot be deleted.'), False,
     errors.CloudRefused),
    (cinder(400, 'Invalid volume: Volume status must be available or error '
            'or error_restoring or error_extending or error_managing and '
            'must not be migrating, attached, belong to a group, have '
            'snapshots, awaiting a transfer, or be disassociated from '
            'snapshots after volume transfer.'), False, errors.ResourceBusy),
    (cinder(400, 'Invalid snapshot: Originating snapshot status must be one '
            "of 'available' values"), True, errors.ResourceBusy),
    (cinder(400, 'Invalid volume: Volume status must be available/in-use, '
            'but current status is: error'), True, errors.ResourceBusy),
    (glance(409, 'Image 1 could not be deleted because it is in use: ...'),
     False, errors.ResourceBusy),
    (cinder(400, "Invalid input received: Volume size '1'GB cannot be "
            "smaller than the snapshot size 2GB. They must be >= original "
            'snapshot size.'), True, errors.CloudRefused),
    (cinder(400, 'Invalid image identifier or unable to access requested '
            'image.'), True, errors.CloudRefused),
    (cinder(404, f'Volume {VOLUME} could not be found.'), False,
     errors.ResourceVanished),
    (cinder(404, f'Snapshot {VOLUME} could not be found.'), True,
     errors.ResourceVanished),
    (cinder(404, 'Volume type with name nosuch could not be found.'), True,
     errors.CloudRefused),
    (glance(404, 'No image found with ID 1'), False,
     errors.ResourceVanished),
    (cinder(401, 'The request you have made requires authentication.'),
     False, errors.CloudAuthFailed),
    (cinder(429, 'Too many'), True, errors.CloudUnavailable),
    (cinder(500, 'The server has either erred'), False,
     errors.CloudUnavailable),
    (cinder(500, 'The server has either erred'), True,
     errors.AmbiguousCreate),
    (answer(503, '<html><body>No server is available</body></html>',
            'text/html'), True, errors.AmbiguousCreate),
    (answer(504, ''), False, errors.CloudUnavailable),
    (glance(415, 'Image failed safety checks'), False, errors.CloudRefused),
])
def test_what_is_said(said: requests.Response, creating: bool,
                      error: type[errors.CloudError]) -> None:
    told = cloud_errors.from_response(said, doing='do it',
                                      resource='volume 1',
                                      creating=creating)
    assert type(told) is error
    assert told.request_id == 'req-1'
    assert told.hint
    assert told.message.startswith('could not do it: ')
    assert '<' not in told.message.replace('>=', '')
    assert errors.from_dict(told.to_dict()).code == told.code


def test_what_is_missing_is_named() -> None:
    told = cloud_errors.from_response(
        cinder(404, f'Snapshot {VOLUME} could not be found.'),
        doing='make a volume', creating=True)
    assert told.resource == f'snapshot {VOLUME}'


def test_long_answers_are_cut() -> None:
    told = cloud_errors.from_response(cinder(400, 'x' * 5000), doing='do it')
    assert len(told.message) < 700


def test_our_own_mistakes_are_not_the_clouds() -> None:
    with pytest.raises(TypeError):
        cloud_errors.from_exception(KeyError('x'), doing='do it')


@pytest.mark.parametrize(('value', 'seconds'), [
    ('7', 7), ('', 0), (None, 0), ('soon', 0), ('-3', 0), ('100000', 60),
    ('Wed, 21 Oct 2015 07:28:00 GMT', 0)])
def test_retry_after(value: str | None, seconds: float) -> None:
    assert rest._retry_after(value) == seconds


# -- TLS ------------------------------------------------------------------

@pytest.fixture
def https(tmp_path: pathlib.Path) -> Iterator[int]:
    """A server whose certificate nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'x')])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(
            ipaddress.ip_address('127.0.0.1'))]), False)
        .sign(key, hashes.SHA256()))
    pem = tmp_path / 'server.pem'
    pem.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()) + certificate.public_bytes(
            serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None   # type: ignore[assignment]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_untrusted_certificate(
        https: int, no_os_variables: None, tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {'AUTH_URL': f'https://127.0.0.1:{https}/v3',
                        'USERNAME': 'u', 'PASSWORD': 's3cret',
                        'PROJECT_NAME': 'p', 'USER_DOMAIN_NAME': 'Default',
                        'PROJECT_DOMAIN_NAME': 'Default'}.items():
        monkeypatch.setenv(f'OS_{name}', value)
    with pytest.raises(errors.ConfigError, match='not trusted') as caught:
        session.connect(make_conf())
    assert 'cafile' in str(caught.value.hint)
    assert 's3cret' not in str(caught.value.to_dict())
    # Trusted by name, it is asked, and is no Keystone.
    with pytest.raises(errors.BakflowError) as other:
        session.connect(make_conf(cafile=str(tmp_path / 'server.pem')))
    assert 'not trusted' not in other.value.message
