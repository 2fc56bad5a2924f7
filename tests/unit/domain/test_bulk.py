"""What fits into a Bulk request, and whose answer is whose."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.demo.servers.asgi import Headers
from orchestrator.demo.servers.bulk import BY_THE_BOOK, Answer, carried_out
from orchestrator.domain import scim1, scim2
from orchestrator.domain.bulk import Answered, Operation, bulk_id, request_body, taken_along, taken_apart

SAMPLES = Path(__file__).parents[2] / "samples/bulk"
SCHEMA = scim2.BULK_SCHEMA
ROOT = "https://crm.example.com/scim/v2"


def made(name: str) -> Operation:
    return Operation("POST", "/Users", {"schemas": ["urn:user"], "userName": name})


def changed(user_id: str, method: str = "PATCH", version: str | None = None) -> Operation:
    return Operation(method, f"/Users/{user_id}", None if method == "DELETE" else {"title": user_id}, version)


operations = st.lists(
    st.one_of(
        st.builds(made, st.text(max_size=40)),
        st.builds(
            changed,
            st.sampled_from(["a", "b%2Fc", "d", "e"]),
            st.sampled_from(["PATCH", "PUT", "DELETE"]),
            st.sampled_from([None, 'W/"7"']),
        ),
    ),
    min_size=1,
    max_size=15,
)
schemas = st.sampled_from([scim1.BULK_SCHEMA, scim2.BULK_SCHEMA])


# --- what goes along --------------------------------------------------------------------------------------------------


@given(operations, schemas, st.integers(2, 12), st.integers(100, 1500))
def test_a_request_keeps_to_its_limits_and_changes_nothing_twice(
    waiting: list[Operation], schema: str, most: int, size: int
) -> None:
    first, rest = waiting[0], waiting[1:]
    chosen = list(taken_along(first, rest, schema, operations=most, size=size))
    together = [first, *(rest[index] for index in chosen)]
    assert chosen == sorted(set(chosen)), "in their order, each once"
    assert len(together) <= most
    if chosen:
        assert len(orjson.dumps(request_body(schema, together))) <= size
    changes = [one.resource for one in together if one.resource is not None]
    assert len(changes) == len(set(changes))


@given(operations, schemas, st.integers(2, 12), st.integers(100, 1500))
def test_nobody_stays_behind_who_would_fit(waiting: list[Operation], schema: str, most: int, size: int) -> None:
    first, rest = waiting[0], waiting[1:]
    chosen = list(taken_along(first, rest, schema, operations=most, size=size))
    together = [first, *(rest[index] for index in chosen)]
    for index, one in enumerate(rest):
        if index in chosen or len(together) == most:
            continue
        twice = one.resource is not None and one.resource in {other.resource for other in together}
        assert twice or len(orjson.dumps(request_body(schema, [*together, one]))) > size


def test_the_sample_of_the_rfc() -> None:
    """Its bulkIds are our own; only the answer to the POST carries one."""
    sample = orjson.loads((SAMPLES / "rfc7644.json").read_bytes())
    asked = [
        Operation(one["method"], one["path"], one.get("data"), one.get("version"))
        for one in sample["request"]["Operations"]
    ]
    assert request_body(SCHEMA, asked) == sample["request"]
    answered = taken_apart(asked, sample["response"])
    assert answered is not None
    assert [one and one.status for one in answered] == [201, 200, 200, 204]
    made_one = answered[0]
    assert made_one is not None
    assert made_one.body == {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "id": "92b725cd-9465-4e7d-8c16-01f8e146b87a",
    }
    assert made_one.headers["etag"] == 'W/"oY4m4wn58tkVjJxK"'


# --- whose answer is whose --------------------------------------------------------------------------------------------


def row(index: int, one: Operation, status: Any = "200", **more: Any) -> dict[str, Any]:
    return {"method": one.method, "bulkId": bulk_id(index), "status": status, **more}


def answers(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkResponse"], "Operations": list(rows)}


@given(operations, st.randoms(use_true_random=False), st.data())
def test_each_gets_its_own_answer_in_whatever_order_they_come(
    asked: list[Operation], chance: Any, data: st.DataObject
) -> None:
    statuses = data.draw(st.lists(st.integers(200, 599), min_size=len(asked), max_size=len(asked)))
    shapes = data.draw(
        st.lists(st.sampled_from(["text", "number", "object"]), min_size=len(asked), max_size=len(asked))
    )
    left_out = data.draw(st.sets(st.integers(0, len(asked) - 1)))
    rows = []
    for index, (one, status, shape) in enumerate(zip(asked, statuses, shapes, strict=True)):
        told = {"text": str(status), "number": status, "object": {"code": str(status)}}[shape]
        rows.append(row(index, one, told, response={"id": f"id{index}"}))
    kept = [one for index, one in enumerate(rows) if index not in left_out]
    chance.shuffle(kept)
    read = taken_apart(asked, answers(*kept))
    assert read == [
        None if index in left_out else Answered(status, {"id": f"id{index}"}, {})
        for index, status in enumerate(statuses)
    ]


@given(
    operations,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["bulkId", "status", "code", "method", "location", "response", "version", "id"]),
                inner,
                max_size=5,
            )
        ),
    ),
)
def test_no_answer_is_too_strange(asked: list[Operation], rows: Any) -> None:
    read = taken_apart(asked, {"Operations": rows})
    assert read is None or len(read) == len(asked)


@pytest.mark.parametrize("body", [None, {}, {"Operations": None}, {"Operations": {}}, {"status": "200"}])
def test_what_is_no_answer_to_a_bulk_request(body: dict[str, Any] | None) -> None:
    assert taken_apart([made("ada")], body) is None


def test_an_account_whose_resource_is_not_shown_has_the_id_of_its_location() -> None:
    one = made("ada")
    for location in (f"{ROOT}/Users/92%2Fb7", "/Users/92%2Fb7/", f"{ROOT}/users/92%2Fb7?x=/y"):
        (answer,) = taken_apart([one], answers(row(0, one, "201", location=location, version='W/"1"'))) or [None]
        assert answer is not None
        assert answer.body == {"schemas": ["urn:user"], "id": "92/b7"}
        assert answer.headers["etag"] == 'W/"1"'


@pytest.mark.parametrize("location", [None, "", f"{ROOT}/Users", f"{ROOT}/Users/", "92b7", f"{ROOT}/Groups/1"])
def test_an_account_that_was_made_and_is_not_named_has_to_be_looked_for(location: str | None) -> None:
    one = made("ada")
    assert taken_apart([one], answers(row(0, one, "201", location=location))) == [None]
    assert taken_apart([one], answers(row(0, one, "409", location=location)))[0] is not None  # type: ignore[index]


def test_without_a_bulk_id_the_location_decides_and_never_for_an_account_that_was_made() -> None:
    first, second, third = changed("a%2F1"), changed("b"), made("ada")
    read = taken_apart(
        [first, second, third],
        answers(
            {"method": "PATCH", "status": "404", "location": f"{ROOT}/Users/b"},
            {"method": "POST", "status": "201", "location": f"{ROOT}/Users/c"},
            {"method": "PATCH", "status": "200", "location": f"{ROOT}/Users/a%2F1"},
        ),
    )
    assert [one and one.status for one in read or ()] == [200, 404, None]


def test_without_either_the_place_decides_if_nothing_is_missing_and_the_methods_agree() -> None:
    asked = [changed("a"), changed("b", "DELETE"), changed("c")]
    plain: list[dict[str, Any]] = [
        {"method": "patch", "status": "200"},
        {"method": "DELETE", "status": "204"},
        {"status": "200"},
    ]
    read = taken_apart(asked, answers(*plain))
    assert [one and one.status for one in read or ()] == [200, 204, None], "the third does not even say what it was"
    assert taken_apart(asked, answers(*plain[:2])) == [None, None, None]
    new: list[dict[str, Any]] = [{"method": "POST", "status": "201", "response": {"id": "1"}}, *plain[:2]]
    read = taken_apart([made("ada"), *asked[:2]], answers(*new))
    assert [one and one.status for one in read or ()] == [None, 200, 204], "an id is never guessed"
    crossed = taken_apart(asked, answers(plain[1], plain[0], plain[2]))
    assert crossed == [None, None, None]


def test_two_answers_for_one_operation_are_none() -> None:
    asked = [made("ada"), changed("b")]
    read = taken_apart(
        asked, answers(row(0, asked[0], "201", response={"id": "1"}), row(0, asked[0], "409"), row(1, asked[1]))
    )
    assert [one and one.status for one in read or ()] == [None, 200]


@pytest.mark.parametrize(
    "status", [None, "", "ok", 20, 2000, True, {"code": None}, {"description": "fine"}, [200], "２００"]
)
def test_a_status_that_says_nothing_is_no_answer(status: Any) -> None:
    assert taken_apart([changed("a")], answers(row(0, changed("a"), status))) == [None]


def test_an_answer_that_is_about_another_method_is_none() -> None:
    assert taken_apart([changed("a", "PUT")], answers({"bulkId": "1", "method": "DELETE", "status": "204"})) == [None]


def test_a_request_asks_to_go_on_after_failures() -> None:
    """RFC 7644, section 3.7.3: without `failOnErrors` the application carries out as many as it can."""
    asked = [changed("a"), changed("b"), changed("c"), changed("d")]
    done: list[str] = []

    def carry(_method: str, path: str, _body: bytes, _headers: Headers) -> Answer:
        done.append(path)
        return Answer(400 if path in ("/Users/a", "/Users/b") else 200, b"{}", ())

    answer = carried_out(BY_THE_BOOK, orjson.dumps(request_body(SCHEMA, asked)), "2.0", ROOT, carry)
    assert done == [one.path for one in asked]
    told = taken_apart(asked, orjson.loads(answer))
    assert told is not None
    assert [one and one.status for one in told] == [400, 400, 200, 200]
