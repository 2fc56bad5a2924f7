"""Where the key of the log comes from, and what is said when it does not come."""

import stat
from pathlib import Path

import pytest

from orchestrator.adapters.audit_log.keys import signing_key, write_key
from orchestrator.config import AuditConfig, load_config
from orchestrator.domain.signed_note import COSIGNATURE, generate_key, parse_verifier
from orchestrator.errors import ConfigError
from tests.audit_log import KEY


def test_the_key_is_in_a_file_or_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(KEY, tmp_path / "key")
    monkeypatch.setenv("AUDIT_KEY", KEY.private_text())
    for settings in (AuditConfig(key_file=tmp_path / "key"), AuditConfig(key_env="AUDIT_KEY", origin=KEY.name)):
        assert signing_key(settings, embedded=False) == KEY


def test_the_embedded_broker_s_log_makes_its_own_once(tmp_path: Path) -> None:
    settings = AuditConfig(dir=tmp_path / "audit", origin="demo.example.com/log")
    key = signing_key(settings, embedded=True)
    assert key == signing_key(settings, embedded=True)
    assert key.name == "demo.example.com/log"
    path = tmp_path / "audit" / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert parse_verifier((tmp_path / "audit" / "key.pub").read_text()) == key.verifier


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "make one with `jml audit key generate`, and name it in audit.key_file"),
        ({"key_env": "NOBODY_SET_IT"}, "NOBODY_SET_IT is not set"),
        ({"key_file": "nowhere"}, "audit.key_file: nowhere: No such file"),
        ({"key_file": "nonsense"}, "audit.key_file: nonsense: it does not begin with PRIVATE"),
        ({"key_file": "witness"}, "one of a witness"),
        ({"key_file": "key", "origin": "other"}, "'other' is not the name of the key, 'audit.example.com/jml'"),
    ],
)
def test_a_key_that_cannot_be_used_is_a_mistake_in_the_configuration(
    settings: dict[str, str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_key(KEY, Path("key"))
    write_key(generate_key("w", COSIGNATURE), Path("witness"))
    Path("nonsense").write_text("hunter2")
    with pytest.raises(ConfigError, match=reason) as refused:
        signing_key(AuditConfig.model_validate(settings), embedded=False)
    assert "hunter2" not in str(refused.value)
    assert KEY.private_text() not in str(refused.value)


@pytest.mark.parametrize("key", ["nonsense", str(KEY.verifier)])
def test_the_key_of_a_witness_is_checked_at_start(tmp_path: Path, key: str) -> None:
    file = tmp_path / "jml.toml"
    file.write_text(f'[[audit.witnesses]]\nurl = "https://witness.example.com"\nkey = "{key}"\n')
    with pytest.raises(ConfigError, match=r"audit.witnesses.0.key: it is (no Ed25519 verifier key|the key of a log)"):
        load_config(file)
