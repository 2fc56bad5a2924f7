"""Ports made real: Kafka, SQL, SCIM over HTTP, the clock. Only `bootstrap` may import what is in here."""
