"""Who may state what: a source's word about an attribute of others is left out and named."""

from datetime import UTC, date, datetime

import pytest

from orchestrator.domain.ownership import Owners
from orchestrator.domain.policy import compile_policy
from schemas.changes import (
    Change,
    ContractChanged,
    IdpAttributesChanged,
    WorkerAttributes,
    WorkerJoined,
    WorkerLeft,
    WorkerMoved,
)
from tests.unit.domain.story import Story, app

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
OWNERS = Owners(
    {"email": ("idp/*",), "contract_end": ("hr/*",), "last_day": ("hr/*", "jml/operator/*"), "custom.badge": ("site",)}
)
END = date(2026, 12, 31)


@pytest.mark.parametrize(
    ("change", "source", "left_out"),
    [
        (WorkerMoved(worker_id="w1", attributes=WorkerAttributes(email="a@x", title="T")), "hr/x", ("email",)),
        (WorkerMoved(worker_id="w1", attributes=WorkerAttributes(custom={"badge": "7"})), "hr/x", ("custom.badge",)),
        (IdpAttributesChanged(worker_id="w1", attributes=WorkerAttributes(email="a@x")), "idp/entra", ()),
        (ContractChanged(worker_id="w1", contract_end=END, kind="employee"), "idp/entra", ("contract_end",)),
        (ContractChanged(worker_id="w1", contract_end=END), "hr/x", ()),
        (ContractChanged(worker_id="w1", kind="employee"), "idp/entra", ()),
        (WorkerLeft(worker_id="w1", last_day=END), "jml/operator/ada", ()),
    ],
)
def test_a_source_states_what_it_owns_and_what_nobody_owns(
    change: Change, source: str, left_out: tuple[str, ...]
) -> None:
    admitted, names = OWNERS.admit(change, source)
    assert names == left_out
    assert admitted is not None
    if not left_out:
        assert admitted is change


def test_the_rest_of_a_change_stays() -> None:
    attributes = WorkerAttributes(email="a@x", title="T", custom={"badge": "7", "desk": "12"})
    admitted, _ = OWNERS.admit(WorkerMoved(worker_id="w1", effective=END, attributes=attributes), "hr/x")
    rest = WorkerAttributes(title="T", custom={"desk": "12"})
    assert admitted == WorkerMoved(worker_id="w1", effective=END, attributes=rest)
    contract = ContractChanged(worker_id="w1", engagement_id="e1", contract_end=END, kind="employee")
    assert OWNERS.admit(contract, "idp/x")[0] == ContractChanged(worker_id="w1", engagement_id="e1", kind="employee")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (ContractChanged(worker_id="w1", contract_end=None), "contract_end"),
        (WorkerLeft(worker_id="w1", last_day=END), "last_day"),
    ],
)
def test_a_change_of_which_nothing_is_left_changes_nothing(change: Change, name: str) -> None:
    assert OWNERS.admit(change, "idp/entra") == (None, (name,))


def test_the_address_of_the_identity_provider_outlives_what_hr_says_later() -> None:
    rules, problems = compile_policy([app(attributes={"userName": "person.email"})], owners=OWNERS)
    assert rules is not None, problems
    story = Story(rules)
    hired = WorkerJoined(worker_id="w1", start_date=NOW.date(), attributes=WorkerAttributes(email="hr@x"))
    story.tell(hired, NOW, event="idp/entra#1")
    told = story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(email="new@x")), NOW, event="hr/x#2")
    assert (told.ignored, told.raised, told.superseded) == (("email",), (), True)
    assert story.access()["directory"][0] == {"userName": "hr@x"}
