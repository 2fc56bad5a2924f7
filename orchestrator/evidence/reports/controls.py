"""The requirements that the reports are evidence for, by the standards' own numbers.

A report supports a control; whether the control is met is the auditor's judgement and not ours.
"""

from orchestrator.evidence.reports.base import Control

_ISO, _SOC2, _HIPAA, _GDPR = "ISO/IEC 27001:2022", "SOC 2", "HIPAA", "GDPR"

ACCESS_CONTROL = Control(_ISO, "A.5.15", "Access control")
IDENTITY_MANAGEMENT = Control(_ISO, "A.5.16", "Identity management")
AUTHENTICATION_INFORMATION = Control(_ISO, "A.5.17", "Authentication information")
ACCESS_RIGHTS = Control(_ISO, "A.5.18", "Access rights")
PRIVILEGED_ACCESS = Control(_ISO, "A.8.2", "Privileged access rights")
LOGICAL_ACCESS = Control(_SOC2, "CC6.1", "Logical access security")
REGISTRATION = Control(_SOC2, "CC6.2", "Registration, authorization and removal of users")
ROLES = Control(_SOC2, "CC6.3", "Access by role, least privilege, removal")
TERMINATION = Control(_HIPAA, "164.308(a)(3)(ii)(C)", "Termination procedures")
PRINCIPLES = Control(_GDPR, "Art. 5", "Principles: minimisation, accuracy, accountability")
ERASURE = Control(_GDPR, "Art. 17", "Right to erasure")
PROCESSING_RECORDS = Control(_GDPR, "Art. 30", "Records of processing activities")
