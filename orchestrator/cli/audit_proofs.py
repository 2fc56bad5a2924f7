"""`jml audit verify`, `prove`, `check-proof`, `witness` and `key`: what an auditor needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import note, print_json, print_line
from orchestrator.config import Config
from orchestrator.domain.signed_note import (
    COSIGNATURE,
    ED25519,
    NoteError,
    VerifierKey,
    generate_key,
    parse_note,
    parse_verifier,
)
from orchestrator.domain.tlog import VERIFIER, parse_checkpoint
from orchestrator.errors import UserError

key_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

LogFolder = Annotated[
    Path | None, typer.Option("--log", help="The log's folder; without it the configured one.", metavar="DIR")
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", "-k", help="A verifier key, or a file with one a line; may be repeated.", metavar="KEY"),
]
WitnessKeys = Annotated[
    list[str] | None,
    typer.Option("--witness-key", help="The verifier key of a witness; may be repeated.", metavar="KEY"),
]


def verify(
    log: LogFolder = None,
    topic: Annotated[bool, typer.Option("--topic", help="Hold the log against the topics as well.")] = False,
    key: Keys = None,
    since: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A checkpoint that was kept elsewhere; the log has to continue it.", metavar="FILE"
        ),
    ] = None,
    witness_key: WitnessKeys = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Recompute everything: every hash, every root that was ever signed, every number, every intent and outcome.

    Exit code 0 and one line that says so: nothing is missing, changed or out of place. Exit code 1: what is wrong, with
    the entry. Without `--key` the key is the configured one; with `--log`, and where none is configured, that of the
    log's own folder, which shows damage but no forgery.

    Example: `jml audit verify --log state/demo/audit --key audit.key.pub --from last-year.checkpoint`
    """
    settings = None if log is not None and not topic else load(config)
    folder = _folder(log, settings)
    keys, origin = _trusted(key, folder, settings)
    bootstrap = services.real_broker(settings) if topic and settings is not None else None
    verdict = services.verify_audit(
        folder,
        keys,
        since=_checkpoint(since) if since else None,
        witnesses=_witnesses(witness_key),
    )
    if bootstrap is not None:
        verdict = run_async(services.with_topic(verdict, bootstrap, folder, keys))
    if as_json:
        print_json({**_fields(verdict), "good": verdict.good, "key_from": origin, "summary": verdict.summary})
    else:
        for problem in verdict.problems:
            print_line(str(problem))
        for text in verdict.notes:
            print_line(f"note: {text}")
        if origin in _WEAK:
            print_line(f"note: {_WEAK[origin]}")
        print_line(verdict.summary)
    raise typer.Exit(0 if verdict.good else 1)


def prove(
    entry: Annotated[str, typer.Argument(help="The entry's id or position.", metavar="ENTRY")],
    log: LogFolder = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The proof's file; without it POSITION.tlog-proof.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write a proof that an entry is in the log: a small file that holds the entry, and that anybody with the key can
    check without the log (C2SP tlog-proof).

    Example: `jml audit prove 4711 --output dismissal.tlog-proof`
    """
    made = services.prove_entry(_folder(log, None if log is not None else load(config)), entry)
    target = output or Path(f"{made.proof.position}.tlog-proof")
    try:
        target.write_bytes(made.proof.encode())
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    if as_json:
        print_json(
            {"position": made.proof.position, "size": made.size, "tile_reads": made.tile_reads, "file": str(target)}
        )
    else:
        print_line(f"entry {made.proof.position} of {made.size}: the proof is in {target}")


def check_proof(
    file: Annotated[Path, typer.Argument(help="A proof file.", metavar="FILE")],
    key: Keys = None,
    witness_key: WitnessKeys = None,
    as_json: AsJson = False,
) -> None:
    """Check a proof by nothing but itself and the key. Exit code 1 when it does not hold.

    Example: `jml audit check-proof dismissal.tlog-proof --key audit.key.pub`
    """
    if not key:
        raise UserError("name the log's verifier key with --key: a proof says nothing without it")
    keys = _keys(key, None)
    try:
        checked = services.check_entry(_read(file), keys, _witnesses(witness_key))
    except NoteError as error:
        print_line(f"NOT GOOD: the proof in {file} does not hold: {error}")
        raise typer.Exit(1) from None
    text = checked.entry.decode(errors="replace")
    if as_json:
        print_json({"good": True, "position": checked.position, "size": checked.size, "origin": checked.origin,
                    "signed_by": checked.signed_by, "entry": text})  # fmt: skip
        return
    print_line(text)
    print_line(
        f"GOOD: this is entry {checked.position} of the {checked.size:,} in the audit log {checked.origin}, signed by"
        f" {', '.join(checked.signed_by)}"
    )


def witness(
    key_file: Annotated[Path, typer.Option("--key-file", help="The witness's own key.", metavar="FILE")],
    log_key: Annotated[
        list[str], typer.Option("--log-key", help="The verifier key of a log, or a file of them; may be repeated.")
    ],
    state: Annotated[Path, typer.Option("--state", help="Where to remember what was signed.", metavar="DIR")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 7380,
) -> None:
    """Witness an audit log until SIGTERM: sign a checkpoint only where it continues the last one (C2SP tlog-witness).

    Run it where whoever writes the log has no access. Make its key with `jml audit key generate NAME --witness`.

    Example: `jml audit witness --key-file witness.key --log-key audit.key.pub --state /var/lib/witness`
    """
    logs = [one for text in log_key for one in _each(text, "--log-key")]
    if any(one.kind != ED25519 for one in logs):
        raise UserError("--log-key takes keys of logs, and this is one of a witness")
    run_async(services.serve_witness(key_file, logs, state, host, port))


@key_app.callback()
def key() -> None:
    """Keys that sign the audit log, or its checkpoints as a witness.

    Example: `jml audit key generate audit.example.com/jml`
    """


@key_app.command()
def generate(
    name: Annotated[str, typer.Argument(help="What the log is called for ever, such as audit.example.com/jml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of the private key.")] = Path("audit.key"),
    for_witness: Annotated[bool, typer.Option("--witness", help="A key for a witness, not for a log.")] = False,
) -> None:
    """Make a key: the private one in a file that only you can read, the verifier key beside it and on standard output.

    Example: `jml audit key generate audit.example.com/jml --output audit.key`
    """
    try:
        made = generate_key(name, COSIGNATURE if for_witness else ED25519)
    except NoteError as error:
        raise UserError(str(error)) from None
    public = services.write_audit_key(made, output)
    print_line(str(made.verifier))
    note(f"the private key is in {output}, the verifier key in {public}; give the latter to whoever verifies")


def register(app: typer.Typer) -> None:
    """Add these commands to `jml audit`."""
    app.command()(verify)
    app.command()(prove)
    app.command("check-proof")(check_proof)
    app.command()(witness)
    app.add_typer(key_app, name="key")


def _folder(log: Path | None, settings: Any) -> Path:
    folder: Path = log if log is not None else settings.audit.dir
    if not folder.is_dir():
        raise UserError(
            f"there is no audit log in {folder}; the auditor writes it, see [audit] dir in the configuration"
        )
    return folder


_WEAK = {
    "configuration": "the key is the configured one: an auditor brings one from elsewhere, with --key",
    "log": "the key is from the log's own folder: whoever wrote the log may have written that too",
}
"""What a key is worth that nobody brought along, by where it is from."""


def _trusted(texts: Sequence[str] | None, folder: Path, settings: Config | None) -> tuple[list[VerifierKey], str]:
    """The keys to verify with, and where they are from."""
    if not texts and settings is not None and (found := services.configured_verifiers(settings)):
        return found, "configuration"
    return _keys(texts, folder), "option" if texts else "log"


def _keys(texts: Sequence[str] | None, folder: Path | None) -> list[VerifierKey]:
    if texts:
        return [one for text in texts for one in _each(text, "--key")]
    assert folder is not None
    path = folder / VERIFIER
    if not path.exists():
        raise UserError(f"name the log's verifier key with --key: there is none in {path}")
    return _kept(path)


def _witnesses(texts: Sequence[str] | None) -> list[VerifierKey]:
    return [one for text in texts or () for one in _each(text, "--witness-key")]


def _each(text: str, option: str) -> list[VerifierKey]:
    """A key, or all of a file."""
    path = Path(text)
    if "+" in text and not path.exists():
        return [_key(text, option)]
    return _kept(path, f"{option}: ")


def _kept(path: Path, option: str = "") -> list[VerifierKey]:
    """The keys in a file, one a line."""
    lines = _read(path).decode(errors="replace").splitlines()
    keys = [_key(line, f"{option}{path} holds no key in line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not keys:
        raise UserError(f"{option}{path} holds no key: it is empty")
    return keys


def _key(text: str, where: str) -> VerifierKey:
    try:
        return parse_verifier(text)
    except NoteError as error:
        raise UserError(f"{where}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _checkpoint(path: Path) -> bytes:
    """A checkpoint that an auditor kept. Another file says nothing of the log."""
    data = _read(path)
    try:
        parse_checkpoint(parse_note(data).text)
    except NoteError as error:
        raise UserError(f"{path} is no checkpoint, or a damaged one: {error}") from None
    return data


def _fields(verdict: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(verdict), "problems": [problem._asdict() for problem in verdict.problems]}
