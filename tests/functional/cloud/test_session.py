"""Which cloud is used, and what is said when it cannot be."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from bakflow import errors
from bakflow.cloud import session
from bakflow.devcloud import DevCloud

from .conftest import make_conf


def volumes_of(cloud: session.Cloud) -> int:
    return len(list(cloud.volumes._list({})))


def test_the_entry_named_in_the_configuration(
        dev: DevCloud, clouds_yaml: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OS_CLOUD', 'devcloud-other')
    cloud = session.connect(make_conf(cloud='devcloud'))
    assert cloud.project_id == dev.project_id('demo')
    assert cloud.key == session.CloudKey(
        f'{dev.url}/identity', 'RegionOne', dev.project_id('demo'))
    assert cloud.user_id == dev.state.users['demo'].id
    cloud.close()


def test_os_cloud(dev: DevCloud, clouds_yaml: pathlib.Path,
                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OS_CLOUD', 'devcloud-other')
    cloud = session.connect(make_conf())
    assert cloud.project_id == dev.project_id('other')
    cloud.close()


def test_os_variables(dev: DevCloud, no_os_variables: None,
                      monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dev.auth().items():
        monkeypatch.setenv(f'OS_{name.upper()}', value)
    cloud = session.connect(make_conf())
    dev.make_volume()
    assert volumes_of(cloud) == 1
    # No region was named: the key has the one of the catalog all the same.
    assert cloud.key.region == 'RegionOne'
    cloud.close()


def test_keystoneauth_options(dev: DevCloud, no_os_variables: None) -> None:
    made = dev.make_app_credential()
    conf = make_conf(auth_type='v3applicationcredential')
    for opt in session.loading.get_auth_plugin_conf_options(
            'v3applicationcredential'):
        conf.register_opt(opt, group='cloud')
    conf.set_override('auth_url', dev.auth_url, group='cloud')
    conf.set_override('application_credential_id', made['id'], group='cloud')
    conf.set_override('application_credential_secret', made['secret'],
                      group='cloud')
    cloud = session.connect(conf)
    dev.make_volume()
    assert volumes_of(cloud) == 1
    assert cloud.project_id == dev.project_id('demo')
    cloud.close()


def test_nothing_is_configured(no_os_variables: None) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        session.connect(make_conf())
    assert 'OS_CLOUD' in str(caught.value.hint)


def test_an_unknown_entry(clouds_yaml: pathlib.Path) -> None:
    with pytest.raises(errors.ConfigError, match='elsewhere') as caught:
        session.connect(make_conf(cloud='elsewhere'))
    assert caught.value.hint


def test_both_ways_at_once(clouds_yaml: pathlib.Path) -> None:
    with pytest.raises(errors.ConfigError, match='exclude each other'):
        session.connect(make_conf(cloud='devcloud', auth_type='password'))


def test_a_broken_file_is_not_quoted(
        clouds_yaml: pathlib.Path,
        caplog: pytest.LogCaptureFixture) -> None:
    clouds_yaml.write_text(
        'clouds:\n  devcloud:\n    auth:\n      password: "s3cret\n  : :')
    with pytest.raises(errors.ConfigError) as caught:
        session.connect(make_conf(cloud='devcloud'))
    assert 's3cret' not in f'{caught.value} {caught.value.to_dict()}'
    assert 's3cret' not in caplog.text
    assert 'clouds.yaml' in caplog.text     # the SDK's own warning


@pytest.mark.parametrize(('change', 'error', 'word'), [
    ({'password': 'wrong'}, errors.CloudAuthFailed, 'refused'),
    ({'project_name': 'nowhere'}, errors.CloudAuthFailed, 'refused'),
    ({'auth_url': 'http://127.0.0.1:9/v3'}, errors.CloudUnavailable,
     'no answer'),
    ({'auth_url': None}, errors.ConfigError, 'auth_url'),
    ({'password': None}, errors.ConfigError, 'password'),
])
def test_wrong_entries(clouds_yaml: pathlib.Path,
                       change: dict[str, str | None],
                       error: type[errors.BakflowError], word: str) -> None:
    config = yaml.safe_load(clouds_yaml.read_text())
    auth = config['clouds']['devcloud']['auth']
    secret = auth['password']
    for key, value in change.items():
        auth[key] = value
        if value is None:
            del auth[key]
    clouds_yaml.write_text(yaml.safe_dump(config))
    with pytest.raises(error, match=word) as caught:
        session.connect(make_conf(cloud='devcloud'))
    assert type(caught.value) is error
    assert caught.value.hint
    assert secret not in f'{caught.value} {caught.value.to_dict()}'


def test_a_region_that_is_not_there(clouds_yaml: pathlib.Path) -> None:
    with pytest.raises(errors.ConfigError, match='Atlantis'):
        session.connect(make_conf(cloud='devcloud', region_name='Atlantis'))


def test_keystone_in_trouble(dev: DevCloud,
                             clouds_yaml: pathlib.Path) -> None:
    dev.faults.add('status', on='token.create', status=503, count=None)
    with pytest.raises(errors.CloudUnavailable):
        session.connect(make_conf(cloud='devcloud'))


@pytest.mark.parametrize('url', [
    'https://Cloud.Example:443/v3/', 'https://cloud.example',
    'https://cloud.example/', 'HTTPS://cloud.example/v3',
])
def test_one_cloud_has_one_key(url: str) -> None:
    key = session.CloudKey.normalised(url, 'R', 'p')
    assert str(key) == 'https://cloud.example R p'


def test_other_clouds_have_other_keys() -> None:
    keys = {session.CloudKey.normalised(url, 'R', 'p') for url in (
        'https://a/v3', 'http://a/v3', 'https://a:5000/v3',
        'https://a/identity/v3', 'https://[::1]:5000/v3')}
    assert len(keys) == 5


def test_options_for_the_sample() -> None:
    options = {o.dest for _, opts in session.list_opts() for o in opts}
    assert {'auth_type', 'auth_url', 'password', 'cafile', 'insecure',
            'application_credential_secret'} <= options
    assert all(o.secret for _, opts in session.list_opts() for o in opts
               if 'secret' in str(o.dest) or o.dest == 'password')
