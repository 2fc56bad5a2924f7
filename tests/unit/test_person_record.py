"""Records of persons that older versions wrote."""

from datetime import date

import orjson

from orchestrator.adapters.sql.records import person_record, read_person


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
