"""Every error the orchestrator raises, as one tree.

    JmlError                        what happened, to what, and what to do
      UserError                     a mistake in a command, a file or the configuration: one line, exit code 2
        ConfigError                 jml.toml: all problems at once, each with file, key and position
        Unreachable                 a service the command needs does not answer
      Poison                        a record nobody can read -> quarantine
      StoreUnavailable              the database does not answer: stop fetching, wait, acknowledge nothing
      BrokerUnavailable             Kafka does not take our messages: keep them in the outbox, try again
      AuditLogTaken                 another process writes the audit log: wait, acknowledge nothing
      WitnessUnavailable            a witness does not answer: try again, the log goes on
      WitnessRefused                a witness does not believe a checkpoint: a person has to look
      AuditLogDamaged               the audit log's files contradict each other: stop, a person has to look
      NotDelivered                  a receiver did not take a notice: worth trying again
        Undeliverable               it will not get better by itself -> the notice is parked
      ScimError                     one call to an application did not do what it should
        Transient                   worth trying again
          RateLimited               429, with the instant before which not to call (application scope)
          Unavailable               5xx, no connection: nothing happened there
            NotFoundPage            a page for people instead of a 404: ask another way
          Changed                   412: somebody changed the account since we read it
          Ambiguous                 the call may have taken effect: read back before anything else
        Permanent                   will not get better by itself -> the account is parked
          Rejected                  4xx for this account
            NoTarget                400 noTarget: what we know of the resource is out of date
          UniquenessConflict        409 and nobody to adopt
          AmbiguousCorrelation      several accounts could be this person's
          Unlinked                  an operator took the account away from the person
          NotEffective              the application said yes and did not do it
        ApplicationDown             401, 403, TLS, wrong host: the lane is paused, no account is to blame

Class says what to do next, scope (message, account, application) says to how much.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.envelope import Envelope


class JmlError(Exception):
    """The root. `str(error)` is a sentence for an operator and holds neither secrets nor personal data."""

    code = "error"


class UserError(JmlError):
    """Somebody asked for something that cannot be done; the message says what to do instead."""

    code = "usage"


class ConfigError(UserError):
    """The configuration has problems; all of them are in `problems`, each with file, key and position."""

    code = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Unreachable(UserError):
    """A service that the command needs does not answer."""

    code = "unreachable"


class Poison(JmlError):
    """A record that nobody can read. `code` is stable and fit for a metric; `envelope` is what of it could be read."""

    def __init__(self, code: str, message: str, envelope: "Envelope | None" = None) -> None:
        super().__init__(message)
        self.code = code
        self.envelope = envelope


class StoreUnavailable(JmlError):
    """The database does not answer, or aborted a transaction that may be tried again."""

    code = "store_unavailable"


class BrokerUnavailable(JmlError):
    """Kafka did not confirm our messages."""

    code = "broker_unavailable"


class AuditLogTaken(JmlError):
    """Another process writes the audit log, or wrote to it while we thought that we did."""

    code = "audit_log_taken"


class AuditLogDamaged(JmlError):
    """The files of the audit log contradict each other; going on would hide what happened to them."""

    code = "audit_log_damaged"


class WitnessUnavailable(JmlError):
    """A witness of the audit log does not answer."""

    code = "witness_unavailable"


class WitnessRefused(JmlError):
    """A witness refuses a checkpoint: it saw another log, a longer one, or does not know our key."""

    code = "witness_refused"


class NotDelivered(JmlError):
    """A receiver did not take a notice. `code` is stable and fit for a metric; no attempt before `not_before`."""

    def __init__(self, code: str, message: str, not_before: datetime | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.not_before = not_before


class Undeliverable(NotDelivered):
    """A receiver will never take the notice as things are: it is parked until a person tries again."""


class ScimError(JmlError):
    """One call to an application did not do what it should."""

    code = "scim"


class Transient(ScimError):
    """Worth trying again later."""

    code = "transient"


class RateLimited(Transient):
    """The application asks us to wait; no call before `not_before`."""

    code = "rate_limited"

    def __init__(self, message: str, not_before: datetime) -> None:
        super().__init__(message)
        self.not_before = not_before


class Unavailable(Transient):
    """The application did not take the call: nothing happened there."""

    code = "unavailable"

    def __init__(self, message: str, not_before: datetime | None = None) -> None:
        super().__init__(message)
        self.not_before = not_before


class NotFoundPage(Unavailable):
    """A page for people says that something is not there (404). It may be a proxy's, or all that this application ever
    says: whoever catches this asks another way."""


class Changed(Transient):
    """Somebody changed the resource since it was read, so nothing was done (412): read again and converge."""

    code = "changed"


class Unconditional(Changed):
    """The application takes changes only with If-Match (428, RFC 6585 section 3): read, and say what was read."""

    code = "unconditional"


class Ambiguous(Transient):
    """The call may have taken effect. Whoever catches this reads back before doing anything else."""

    code = "ambiguous"


class TooLarge(Ambiguous):
    """The answer is larger than anything that is read; it would be again."""


class Permanent(ScimError):
    """Will not get better by itself: the account is parked until a person or a newer revision comes."""

    code = "permanent"


class Rejected(Permanent):
    """The application refuses this account's data."""

    code = "rejected"


class NoTarget(Rejected):
    """Nothing is where a change was to be made (RFC 7644, table 9): what we know of the resource is out of date."""


class CursorLost(Rejected):
    """The application does not know any more where a list was left (RFC 9865, section 2.1): read it from the start."""


class UniquenessConflict(Permanent):
    """The application says that the account exists, and none that it shows can be this person's."""

    code = "uniqueness"


class AmbiguousCorrelation(Permanent):
    """Several accounts of the application could be this person's; `candidates` are their ids there."""

    code = "ambiguous_correlation"

    def __init__(self, message: str, candidates: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class Unlinked(Permanent):
    """An operator took the account away from the person: nobody looks for another one until a person says so."""

    code = "unlinked"


class NotEffective(Permanent):
    """The application answered with success and the account shows that nothing happened."""

    code = "not_effective"


class ApplicationDown(ScimError):
    """The application as a whole refuses us; retrying account by account would only hide that."""

    code = "application_down"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
