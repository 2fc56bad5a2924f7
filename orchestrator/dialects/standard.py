"""SCIM 2.0 and SCIM 1.1 as they are written: for applications without a dialect of their own."""

from orchestrator.dialects.base import Dialect

STANDARD = Dialect(
    name="standard",
    title="SCIM 2.0",
    sources=("https://www.rfc-editor.org/rfc/rfc7643", "https://www.rfc-editor.org/rfc/rfc7644"),
)

STANDARD_1 = Dialect(
    name="standard-1.1",
    title="SCIM 1.1",
    sources=(
        "https://datatracker.ietf.org/doc/html/draft-scim-core-schema-01",
        "https://datatracker.ietf.org/doc/html/draft-scim-api-01",
    ),
    version="1.1",
)
