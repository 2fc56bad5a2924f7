"""Verifies an audit log from its files and keys alone. It shares the pure Merkle and tlog modules with the writer, and
nothing else: a mistake of the writer's must not be the verifier's as well."""

from orchestrator.adapters.audit_verify.proving import check_proof, prove
from orchestrator.adapters.audit_verify.verifying import Verdict, verify

__all__ = ["Verdict", "check_proof", "prove", "verify"]
