"""`bulk` in the configuration: where it is refused, and whose word counts."""

from pathlib import Path

import pytest

from orchestrator.bootstrap import connect
from orchestrator.config import load_config
from orchestrator.errors import ConfigError
from orchestrator.testing.clock import ManualClock
from tests.unit.flows.fakes import NOW

APP = """
[apps.crm]
base_url = "https://crm.example.com/scim/v2"
bulk = true
{more}

[apps.crm.attributes]
userName = "person.user_name"
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('dialect = "aws-identity-center"', "has no Bulk"),
        ("capabilities = { bulk = false }", "has no Bulk"),
        ("concurrency = 1", "bulk needs a concurrency of 2"),
        ("capabilities = { bulk_operations = 1 }", "bulk_operations"),
    ],
)
def test_what_can_have_no_effect_is_refused(tmp_path: Path, more: str, told: str) -> None:
    path = tmp_path / "jml.toml"
    path.write_text(APP.format(more=more))
    with pytest.raises(ConfigError, match=told):
        load_config(path)


@pytest.mark.parametrize("dialect", ["standard", "standard-1.1", "aws-identity-center"])
def test_an_operator_knows_better_than_the_dialect(tmp_path: Path, dialect: str) -> None:
    path = tmp_path / "jml.toml"
    more = f'dialect = "{dialect}"\ncapabilities = {{ bulk = true, bulk_operations = 7, bulk_bytes = 9000 }}'
    path.write_text(APP.format(more=more))
    _, application = connect("crm", load_config(path).apps["crm"], ManualClock(NOW))
    known = application.capabilities
    assert (known.bulk, known.bulk_operations, known.bulk_bytes) == (True, 7, 9000)


def test_it_is_off_by_default(tmp_path: Path) -> None:
    path = tmp_path / "jml.toml"
    path.write_text(APP.format(more="").replace("bulk = true", ""))
    assert load_config(path).apps["crm"].bulk is False
