"""Names with a counter: the candidates, and which of them an account shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.account import Account
from orchestrator.domain.lifecycle import Standing, Status
from orchestrator.domain.paths import ENTERPRISE
from orchestrator.domain.policy import compile_policy
from orchestrator.domain.unique_names import MOST_NAMES, candidate, number_of, numbered
from schemas.changes import WorkerMoved
from tests.unit.domain.story import Story, app, policy
from tests.unit.domain.test_policy import NOW
from tests.unit.domain.test_policy_dates import joined

PATHS = (("userName",), ("emails",), ("nick", "name"), (ENTERPRISE, "employeeNumber"))


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("jdoe", 1, "jdoe"),
        ("jdoe", 2, "jdoe2"),
        ("jdoe@example.com", 13, "jdoe13@example.com"),
        ('"j@d"@example.com', 2, '"j@d"2@example.com'),
        ("@jdoe", 2, "@jdoe2"),
    ],
)
def test_the_counter_stands_at_the_end_of_the_name(name: str, number: int, expected: str) -> None:
    assert candidate(name, number) == expected


@given(st.text(min_size=1), st.integers(1, MOST_NAMES))
def test_an_account_is_known_by_its_candidate(name: str, number: int) -> None:
    plain = {"userName": name}
    assert number_of(numbered(plain, PATHS, number), plain, PATHS) == number


def test_all_unique_attributes_have_one_number_and_nothing_else_changes() -> None:
    plain = {
        "userName": "jdoe",
        "emails": [{"value": "jdoe@x", "type": "work"}, {"value": "j@home", "type": "home"}],
        "nick": {"name": "jd", "other": "jd"},
        "title": "jdoe",
    }
    assert numbered(plain, PATHS, 3) == {
        "userName": "jdoe3",
        "emails": [{"value": "jdoe3@x", "type": "work"}, {"value": "j3@home", "type": "home"}],
        "nick": {"name": "jd3", "other": "jd"},
        "title": "jdoe",
    }
    assert numbered(plain, PATHS, 1) is plain
    assert numbered(plain, (), 5) is plain


def test_a_name_of_another_kind_has_no_number() -> None:
    assert number_of({"userName": "legacy"}, {"userName": "jdoe"}, PATHS) is None
    assert number_of({"username": "JDOE4"}, {"userName": "jdoe"}, PATHS) == 4
    assert number_of({"userName": "jdoe"}, {"title": "x"}, PATHS) is None


def test_a_unique_name_is_written_once() -> None:
    rules = policy(app(attributes={"userName": "person.family_name", "externalId": "person.id"}, unique=("userName",)))
    story = Story(rules)
    story.tell(joined(attributes={"family_name": "doe"}), NOW.replace(month=4))
    story.tell(WorkerMoved(worker_id="w1", attributes={"family_name": "roe"}), NOW.replace(month=5))
    assert story.accounts["directory"].resource["userName"] == "doe"


def test_an_identity_is_lent_as_the_account_has_it() -> None:
    lender = app("old", attributes={"userName": "'doe'", "externalId": "person.id"}, unique=("userName",))
    rules = policy(lender, app("new", attributes={"userName": "'other'"}, identity_from="old", identity=("userName",)))
    account = Account("w1", "old", 1, "active", {"userName": "doe"}, (), NOW, "hr#1", "c", "p", number=4)
    desires, _ = rules.desires("w1", Standing(Status.ACTIVE, NOW, "employee", {}))
    lent = rules.with_identity("new", desires["new"], {"old": account})
    assert lent is not None
    assert lent.resource["userName"] == "doe4"


def test_what_is_unique_has_to_be_mapped_and_is_part_of_the_version() -> None:
    _, problems = compile_policy([app(unique=("nickName",))])
    assert [str(one) for one in problems] == ["apps.directory.unique: nickName is not among the attributes"]
    assert policy(app()).digest != policy(app(unique=("userName",))).digest
