"""The connected applications that the demo, the tests and the benchmark provision into.

Three SCIM 2.0 servers that share no SCIM code: `scim2` (scim2-server), `django` (django-scim2) and
`plain` (our own, fast). They disagree wherever the RFC lets them, which is the point: a connector that
converges on all three has not learnt one vendor's habits. `serve` runs any of them as a process of its own.
"""
