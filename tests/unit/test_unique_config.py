"""`unique` and `correlate` in the configuration: what is taken, and what is refused with its place."""

from pathlib import Path

import pytest

from orchestrator.config import load_config
from orchestrator.errors import ConfigError

APP = """
[apps.crm]
base_url = "https://crm.example.com/scim/v2"
{more}

[apps.crm.attributes]
userName = 'slug(person.family_name)'
externalId = "person.id"
"""


def load(folder: Path, more: str, text: str = APP) -> ConfigError | None:
    path = folder / "jml.toml"
    path.write_text(text.format(more=more))
    try:
        load_config(path)
    except ConfigError as error:
        return error
    return None


def test_rules_and_unique_names_are_taken(tmp_path: Path) -> None:
    more = """
unique = ["userName"]
correlate = ["externalId", { search = "emails.value", value = "person.email", where = "resource.active" }]
"""
    assert load(tmp_path, more) is None
    correlation = load_config(tmp_path / "jml.toml").correlation("crm")
    assert [rule.search for rule in correlation.rules] == ["externalId", "emails.value"]
    assert (correlation.configured, correlation.unique) == (True, (("userName",),))


def test_without_rules_those_of_the_dialect_count(tmp_path: Path) -> None:
    assert load(tmp_path, 'dialect = "snowflake"') is None
    correlation = load_config(tmp_path / "jml.toml").correlation("crm")
    assert [rule.search for rule in correlation.rules] == ["userName"]
    assert not correlation.configured


@pytest.mark.parametrize(
    ("more", "text", "words"),
    [
        ('unique = ["nickName"]', APP, "apps.crm.unique: nickName is not among the attributes"),
        ('unique = ["userName"]', APP.replace('externalId = "person.id"', ""), "unique needs externalId"),
        ('correlate = ["title"]', APP, "4:13: apps.crm.correlate.1: title is not among the attributes"),
        ('correlate = [{ search = "title", value = "person." }]', APP, "apps.crm.correlate.1"),
        ('correlate = [{ serach = "title" }]', APP, "serach"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, more: str, text: str, words: str) -> None:
    error = load(tmp_path, more, text)
    assert error is not None
    assert words in str(error)
