"""The ledger and the rows that users see."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from bakflow import errors, states
from bakflow.db import changes, claims, engine, models
from bakflow.db.ledger import Ledger

S = states.Temporary


@pytest.fixture
def book(db, make_flow):
    flow_id = make_flow()
    claim = claims.take(db, 'a', 60).claim
    assert claim.flow_id == flow_id
    return Ledger(db, claim, owner_id=models.new_id(), cloud='c')


def test_the_same_intention_is_one_row(book):
    first = book.intend('volume', 'volume')
    again = book.intend('volume', 'volume')
    assert (first.id, first.seen_before) == (again.id, False)
    assert again.seen_before
    assert again.name == again.tag.name


def test_what_is_gone_makes_room_for_another(book):
    first = book.record(book.intend('volume', 'volume'), 'id-1')
    book.gone(book.releasing(first))
    second = book.intend('volume', 'volume')
    assert (second.ordinal, second.seen_before) == (1, False)
    assert second.name != first.name
    assert [e.status for e in book.entries()] == [S.GONE, S.INTENDED]


def test_what_resists_is_an_orphan_until_it_is_gone(book):
    entry = book.record(book.intend('image', 'image'), 'id-1')
    entry = book.orphaned(book.releasing(entry), 'error_deleting')
    assert entry.last_error == 'error_deleting'
    assert book.current('image').status is S.ORPHANED
    assert book.gone(book.releasing(entry)).status is S.GONE
    assert book.current('image') is None


def test_no_move_beside_the_table(book):
    entry = book.intend('image', 'image')
    with pytest.raises(errors.Conflict):
        book.kept(entry)
    with pytest.raises(ValueError, match='may not go'):
        states.check(S.GONE, S.LIVE)


def test_each_change_has_its_event(book, db):
    entry = book.record(book.intend('image', 'image'), 'id-1')
    book.gone(book.releasing(entry))
    with db.transaction() as session:
        found = session.execute(sa.select(
            models.Event.before, models.Event.after)
            .where(models.Event.kind == 'temporary')
            .order_by(models.Event.id)).all()
    assert [tuple(e) for e in found] == [
        (None, 'intended'), ('intended', 'live'), ('live', 'releasing'),
        ('releasing', 'gone')]


def test_migrations_make_what_the_models_say(db):
    with db.engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={
            'version_table': engine.VERSION_TABLE,
            'include_object': lambda o, name, kind, *_: not (
                kind == 'table' and name in (
                    'logbooks', 'flowdetails', 'atomdetails',
                    'alembic_version', 'bakflow_alembic_version'))})
        assert compare_metadata(context, models.Base.metadata) == []
    assert engine.is_current(db)


def test_the_database_file_is_private(db, tmp_path):
    assert (tmp_path / 'b.db').stat().st_mode & 0o077 == 0


def test_a_guarded_move_happens_once(db, make_flow):
    flow_id = make_flow(status='held')
    with db.transaction() as session:
        assert changes.move(session, states.Flow.QUEUED, flow_id,
                            before=(states.Flow.HELD,), actor='a')
        assert not changes.move(session, states.Flow.QUEUED, flow_id,
                                before=(states.Flow.HELD,), actor='b')
