"""What the configuration says about time, and what it does not accept."""

from datetime import time
from pathlib import Path

import pytest

from orchestrator.config import load_config
from orchestrator.domain.policy import BeforeStart, TimeRules
from orchestrator.errors import ConfigError

APP = """
[apps.crm]
base_url = "http://localhost:9/scim/v2"
attributes = { userName = "person.id" }
"""


def test_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "jml.toml"
    file.write_text(APP)
    policy = load_config(file).policy()
    assert policy.time == TimeRules(None, (30, 14, 7, 1), (7, 1))
    assert policy.days_before_start == set()


def test_an_hour_warnings_and_accounts_before_the_first_day(tmp_path: Path) -> None:
    file = tmp_path / "jml.toml"
    file.write_text(
        '[time]\naccess_ends = "18:00"\n[notices]\ncontract_end_days = [10]\nentitlement_end_days = []\n'
        + APP.replace("attributes", 'before_start = { days = 3, state = "active" }\nattributes')
    )
    policy = load_config(file).policy()
    assert policy.time == TimeRules(time(18), (10,), ())
    found = policy.app_policy("crm")
    assert found is not None
    assert found.before_start == BeforeStart(3, "active")
    file.write_text(APP)
    assert load_config(file).policy().digest != policy.digest


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[time]\naccess_ends = "25:00"\n', "'25:00' is neither 'end_of_day' nor an hour such as '18:00'"),
        ('[time]\naccess_ends = "6 pm"\n', "time.access_ends"),
        ("[notices]\ncontract_end_days = [-1]\n", "notices.contract_end_days.0"),
        ("[apps.crm]\nbefore_start = { days = 0 }\n", "apps.crm.before_start.days"),
        ('[apps.crm]\nbefore_start = { days = 3, state = "open" }\n', "apps.crm.before_start.state"),
    ],
)
def test_what_is_not_accepted_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "jml.toml"
    file.write_text(text + (APP if "apps" not in text else APP.replace("[apps.crm]", "")))
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    assert complaint in str(refused.value)
