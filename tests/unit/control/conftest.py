"""A real SQLite database with the real migrations."""

import pytest

from bakflow.db import engine, models


@pytest.fixture
def db(tmp_path):
    database = engine.connect(f'sqlite:///{tmp_path}/b.db')
    engine.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def make_flow(db):
    def make(**values):
        owner = values.pop('owner_id', models.new_id())
        row = models.Flow(
            id=models.new_id(), kind='volume-backup', owner_id=owner,
            project_id='p', request={}, cloud='c', status='queued')
        for key, value in values.items():
            setattr(row, key, value)
        with db.transaction() as session:
            session.add(row)
        return row.id
    return make


@pytest.fixture
def flow_row(db):
    def read(flow_id):
        with db.transaction() as session:
            return session.get_one(models.Flow, flow_id)
    return read
