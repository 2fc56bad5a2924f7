"""Records of persons that older versions wrote."""

from datetime import UTC, date, datetime

import orjson

from orchestrator.adapters.sql.records import person_record, read_person
from orchestrator.domain.person import Person, apply
from schemas.changes import IdentityKept


def test_a_record_from_before_there_were_entitlements_and_withdrawals_is_read() -> None:
    """As it was written by the first version."""
    record = (
        '{"history":[["2026-01-05T00:00:00+00:00","2026-01-01T08:00:00+00:00","hr#1",{"title":"x"},"2026-01-05"]],'
        '"engagements":[["e1",["2026-01-05","2026-01-01T08:00:00+00:00","hr#1"],'
        '["contractor","2026-01-01T08:00:00+00:00","hr#1"],["2026-06-30","2026-01-01T08:00:00+00:00","hr#1"],'
        '[null,"0001-01-01T00:00:00+00:00",""]]],"ends":[],"contracts":[],'
        '"decision":["2026-01-05T00:00:00+00:00","active","contractor","p1"]}'
    )
    person = read_person("w1", record)
    contract_end = person.engagements["e1"].contract_end
    assert (contract_end.value, contract_end.event_id, contract_end.earlier) == (date(2026, 6, 30), "hr#1", ())
    assert (person.entitlements, person.withdrawn, person.warned) == ({}, {}, ())
    assert read_person("w1", person_record(person)) == person
    assert orjson.loads(person_record(person)) == orjson.loads(record), "and written as it was"


def test_what_an_account_keeps_is_on_record() -> None:
    person, kept = Person("w1"), [{"value": "a@example.com", "primary": True}]
    for number, values in enumerate(({"userName": "ann", "emails": kept}, {})):
        change = IdentityKept(worker_id="w1", app="crm", values=values)
        stated = datetime(2026, 1, 1 + number, tzinfo=UTC)
        person = apply(person, change, event_id=f"migrate/old#{number}", stated=stated, default_zone="UTC")
        assert read_person("w1", person_record(person)) == person
    fact = person.identities["crm"]
    assert (fact.value, [one.value for one in fact.earlier]) == (None, [{"userName": "ann", "emails": kept}])
