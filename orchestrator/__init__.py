"""The orchestrator: identity changes in, SCIM commands out, every step audited. `domain` decides, `flows` do."""
