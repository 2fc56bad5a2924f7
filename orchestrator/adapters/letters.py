"""Notices as e-mail: templates from files, and a message that nothing in a name can break.

A template is `KIND.txt`, `string.Template` text: its first line is `Subject: ...`, then an empty line, then the body.
It can only fill in the fields below; there is nothing in it that could run.
"""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import get_args

from orchestrator.domain.days import zone
from orchestrator.errors import ConfigError
from orchestrator.ports.noticing import Contact, Delivery
from schemas.notices import NoticeKind

FIELDS = ("name", "person_id", "app", "group", "when", "due_local", "due_utc", "zone")
LONGEST = 200
"""Characters of one field. A name is longer in nobody's passport."""
_SUBJECT = "Subject: "


class Letters:
    """Writes e-mails. `templates` are subject and body of each kind of notice; see `load_letters`."""

    def __init__(self, templates: Mapping[str, tuple[Template, Template]], sender: str, default_zone: str) -> None:
        self._templates = templates
        self._sender = sender
        self._default_zone = default_zone

    def write(self, delivery: Delivery, about: Contact | None, to: str) -> EmailMessage:
        """The message for one recipient. Its id is the same at every attempt, so that a second copy can be told."""
        subject, body = self._templates[delivery.notice.kind]
        values = fields(delivery, about, self._default_zone)
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = to
        message["Subject"] = subject.substitute(values)
        message["Date"] = format_datetime(delivery.issued_at)
        which = sha256(f"{delivery.key}/{delivery.receiver}".encode()).hexdigest()[:32]
        message["Message-ID"] = f"<{which}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
        message.set_content(body.substitute(values))
        return message


def fields(delivery: Delivery, about: Contact | None, default_zone: str) -> dict[str, str]:
    """What a template may say of a notice, each on one line."""
    notice = delivery.notice
    where = zone(about.time_zone if about else None, default_zone)
    local, utc = notice.due.astimezone(where), notice.due
    values = {
        "name": about.name if about else notice.person_id,
        "person_id": notice.person_id,
        "app": notice.app or "",
        "group": notice.group or "",
        "when": _when(notice.days_before),
        "due_local": _moment(local),
        "due_utc": _moment(utc),
        "zone": where.key,
    }
    return {name: one_line(value) for name, value in values.items()}


def one_line(text: str) -> str:
    """The text without anything that ends a line, hides or turns what follows: names come from outside."""
    kept = "".join(" " if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") else one for one in text)
    return " ".join(kept.split())[:LONGEST]


def _when(days: int | None) -> str:
    if days is None:
        return "soon"
    return ("today", "tomorrow")[days] if days < 2 else f"in {days} days"


def _moment(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M")


def load_letters(folder: Path | None, sender: str, default_zone: str) -> Letters:
    """The templates of the package, each unless `folder` has its own. Raises ConfigError with every problem."""
    problems: list[str] = []
    templates = {}
    if folder is not None and not folder.is_dir():
        raise ConfigError([f"notices.email.templates: {folder}: no such folder"])
    for kind in get_args(NoticeKind):
        own = folder / f"{kind}.txt" if folder is not None else None
        try:
            if own is not None and own.is_file():
                templates[kind] = _parsed(own.read_text(encoding="utf-8"))
            else:
                templates[kind] = _parsed(files("orchestrator").joinpath(f"letters/{kind}.txt").read_text("utf-8"))
        except (ValueError, OSError) as error:
            problems.append(f"notices.email.templates: {own}: {error}")
    if problems:
        raise ConfigError(problems)
    return Letters(templates, sender, default_zone)


def _parsed(text: str) -> tuple[Template, Template]:
    head, _, body = text.replace("\r\n", "\n").partition("\n")
    if not head.startswith(_SUBJECT) or not body.startswith("\n"):
        raise ValueError(f"does not begin with a line `{_SUBJECT}...` and an empty line")
    found = Template(head.removeprefix(_SUBJECT).strip()), Template(body.lstrip("\n"))
    for template in found:
        if not template.is_valid():
            raise ValueError("has a $ that is no field; write $$ for a dollar sign")
        if unknown := set(template.get_identifiers()) - set(FIELDS):
            raise ValueError(f"uses {', '.join(sorted(unknown))}; the fields are {', '.join(FIELDS)}")
    return found
