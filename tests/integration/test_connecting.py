"""Credentials, certificates and addresses: what is sent to whom, tried on real sockets."""

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import jwt
import orjson
import pytest
from aiohttp import ThreadedResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.network import is_private, tls_context
from orchestrator.adapters.scim_auth import credentials
from orchestrator.adapters.scim_http import HttpScimTransport
from orchestrator.auth_config import AuthConfig
from orchestrator.errors import ApplicationDown, ConfigError, Rejected, ScimError, Unavailable, UserError
from orchestrator.ports import ScimRequest

READ = ScimRequest("GET", "/Users")
Seen = list[dict[str, str]]
Answer = Callable[[str, dict[str, str], bytes], tuple[int, dict[str, Any]]]


@asynccontextmanager
async def served(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server of a few lines, so that nothing is between the test and the bytes. Yields host and port."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                headers: dict[str, str] = {}
                while header := (await reader.readline()).decode().strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                status, body = answer(line.decode().split(" ")[1], headers, content)
                text = orjson.dumps(body)
                head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
                writer.write(head.encode() + text)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def calling(url: str, auth: AuthConfig, **settings: Any) -> AsyncIterator[HttpScimTransport]:
    """The transport as the connector makes it."""
    given: dict[str, Any] = {"concurrency": 8, "timeout": 2.0, "allow_private": True, **settings}
    transport = HttpScimTransport("crm", url, **given)
    transport.credentials = credentials("crm", auth, SystemClock(), transport.post_form)
    try:
        yield transport
    finally:
        await transport.close()


class TokenEndpoint:
    """An authorisation server and the application behind it: tokens `t1`, `t2`, ... of which only some are good."""

    def __init__(self, life: float = 3600) -> None:
        self.life = life
        self.forms: list[dict[str, str]] = []
        self.clients: list[str] = []
        self.sent: list[str] = []
        self.revoked: set[str] = set()
        self.status = 200

    def __call__(self, path: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/token":
            self.forms.append(dict(parse_qsl(content.decode())))
            self.clients.append(headers.get("authorization", ""))
            if self.status != 200:
                return self.status, {"error": "invalid_client"}
            return 200, {"access_token": f"t{len(self.forms)}", "token_type": "Bearer", "expires_in": self.life}
        self.sent.append(headers.get("authorization", ""))
        good = self.sent[-1].startswith("Bearer ") and self.sent[-1] not in self.revoked
        return (200, {"totalResults": 0}) if good else (401, {})


@pytest.fixture
def oauth(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AuthConfig]:
    monkeypatch.setenv("CRM_SECRET", "s3cret")

    def configured(host: str) -> AuthConfig:
        return AuthConfig(
            type="oauth2",
            token_url=f"http://{host}/token",
            client_id="jml",
            client_secret_env="CRM_SECRET",
            scope="scim",
        )

    return configured


async def test_a_token_is_fetched_once_however_many_calls_wait_for_it(oauth: Callable[[str], AuthConfig]) -> None:
    endpoint = TokenEndpoint()
    async with served(endpoint) as host, calling(f"http://{host}", oauth(host)) as transport:
        answers = await asyncio.gather(*(transport.send(READ) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert endpoint.forms == [{"grant_type": "client_credentials", "scope": "scim"}]
    assert endpoint.clients == ["Basic " + base64.b64encode(b"jml:s3cret").decode()]
    assert set(endpoint.sent) == {"Bearer t1"}


@pytest.mark.parametrize(
    ("client", "secret"),
    [
        ("jml:crm", "a:b%c d+e&f=g"),
        ("jml%3Acrm", "50%25"),
        ("Jürgen's app", "schlüssel zum tor/ß"),
        ("a~b.c-d_e", "plain-s3cret._~"),
    ],
)
async def test_a_client_and_its_secret_arrive_as_they_are(
    client: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 6749, section 2.3.1: the token endpoint takes user and password apart and decodes each of them."""
    monkeypatch.setenv("CRM_SECRET", secret)

    def token(path: str, headers: dict[str, str], _content: bytes) -> tuple[int, dict[str, Any]]:
        if path != "/token":
            return 200, {"totalResults": 0}
        pair = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode("ascii")
        user, _, password = pair.partition(":")
        known = (unquote_plus(user), unquote_plus(password)) == (client, secret)
        return (200, {"access_token": "t1"}) if known else (401, {"error": "invalid_client"})

    async with served(token) as host:
        auth = AuthConfig(
            type="oauth2", token_url=f"http://{host}/token", client_id=client, client_secret_env="CRM_SECRET"
        )
        async with calling(f"http://{host}", auth) as transport:
            assert (await transport.send(READ)).status == 200


async def test_a_token_is_renewed_before_it_ends(
    oauth: Callable[[str], AuthConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = TokenEndpoint(life=100)
    async with served(endpoint) as host, calling(f"http://{host}", oauth(host)) as transport:
        await transport.send(READ)
        loop = asyncio.get_running_loop()
        time, passed = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: time() + passed)
        passed = 60
        await transport.send(READ)
        passed = 75  # thirty seconds before the end at the latest
        await transport.send(READ)
    assert endpoint.sent == ["Bearer t1", "Bearer t1", "Bearer t2"]


async def test_a_token_that_is_refused_is_replaced_once(oauth: Callable[[str], AuthConfig]) -> None:
    endpoint = TokenEndpoint()
    async with served(endpoint) as host, calling(f"http://{host}", oauth(host)) as transport:
        await transport.send(READ)
        endpoint.revoked = {"Bearer t1"}
        answers = await asyncio.gather(*(transport.send(READ) for _ in range(5)))
        assert {answer.status for answer in answers} == {200}
        assert len(endpoint.forms) == 2
        endpoint.revoked = {"Bearer t2", "Bearer t3"}
        assert (await transport.send(READ)).status == 401, "it is not tried for ever"


async def test_a_token_endpoint_in_trouble_is_the_applications_trouble(oauth: Callable[[str], AuthConfig]) -> None:
    endpoint = TokenEndpoint()
    async with served(endpoint) as host, calling(f"http://{host}", oauth(host)) as transport:
        endpoint.status = 400
        with pytest.raises(ApplicationDown, match=r"the token endpoint refuses our client \(400 invalid_client\)"):
            await transport.send(READ)
        endpoint.status = 503
        with pytest.raises(Unavailable, match="the token endpoint is unavailable"):
            await transport.send(READ)
        endpoint.status = 200
        assert (await transport.send(READ)).status == 200


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_client_proves_itself_by_a_signed_assertion(tmp_path: Path, algorithm: str) -> None:
    key: Any = (
        rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    )
    file = tmp_path / "key.pem"
    file.write_bytes(_pem(key))
    endpoint = TokenEndpoint()
    async with served(endpoint) as host:
        url = f"http://{host}/token"
        auth = AuthConfig.model_validate(
            {
                "type": "private_key_jwt",
                "token_url": url,
                "client_id": "jml",
                "private_key_file": file,
                "key_id": "k1",
                "algorithm": algorithm,
            }
        )
        async with calling(f"http://{host}", auth) as transport:
            assert (await transport.send(READ)).status == 200
    [form] = endpoint.forms
    assert jwt.get_unverified_header(form["client_assertion"])["kid"] == "k1"
    claims = jwt.decode(form["client_assertion"], key.public_key(), [algorithm], audience=url)
    assert (claims["iss"], claims["sub"]) == ("jml", "jml")
    assert claims["exp"] - claims["iat"] <= 300
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert endpoint.clients == [""], "nothing secret is sent"


@pytest.mark.parametrize("token", ["two\nlines", "", 7, "t\u00f6ken"])
async def test_a_token_that_no_header_can_carry_is_none(token: object, oauth: Callable[[str], AuthConfig]) -> None:
    async with (
        served(lambda *_: (200, {"access_token": token})) as host,
        calling(f"http://{host}", oauth(host)) as transport,
    ):
        with pytest.raises(ApplicationDown, match="token endpoint"):
            await transport.send(READ)


async def test_an_id_that_no_address_can_carry_is_refused() -> None:
    async with calling("http://127.0.0.1:9", AuthConfig()) as transport:
        with pytest.raises(Rejected, match="no address"):
            await transport.send(ScimRequest("GET", f"/Users/{'x' * 70_000}"))


async def test_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_PASSWORD", "pä:ss")
    seen: Seen = []
    async with served(partial(_seen, seen)) as host:
        auth = AuthConfig(type="basic", user="jml", password_env="CRM_PASSWORD")
        async with calling(f"http://{host}", auth) as transport:
            await transport.send(READ)
    assert base64.b64decode(seen[0]["authorization"].removeprefix("Basic ")).decode() == "jml:pä:ss"


def _seen(seen: Seen, path: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, Any]]:
    seen.append(headers)
    return 200, {"totalResults": 0}


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"type": "basic", "user": "jml"}, "password_env or password_file"),
        ({"type": "oauth2", "client_id": "jml", "client_secret_env": "X"}, "token_url"),
        ({"type": "private_key_jwt", "token_url": "https://a.example", "client_id": "jml"}, "private_key_file"),
        ({"type": "mtls"}, "cert_file"),
    ],
)
def test_credentials_that_are_not_complete_are_refused_at_start(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(ValueError, match=f"needs {missing}"):
        AuthConfig.model_validate(given)


async def test_a_key_that_is_none_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("hunter2")
    auth = AuthConfig.model_validate(
        {
            "type": "private_key_jwt",
            "token_url": "https://a.example/token",
            "client_id": "jml",
            "private_key_file": tmp_path / "key.pem",
        }
    )
    with pytest.raises(ConfigError, match="holds no key for RS256") as refused:
        credentials("crm", auth, SystemClock(), _nobody)
    assert "hunter2" not in str(refused.value)


async def _nobody(*_: Any) -> tuple[int, dict[str, Any] | None]:
    raise AssertionError("nobody is asked")


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("192.168.0.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("0.0.0.0", True),  # noqa: S104 - an address to be refused, nobody listens on it
        ("224.0.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::a00:1", True),
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("::ffff:8.8.8.8", False),
        ("64:ff9b::808:808", False),
    ],
)
def test_private_addresses_are_known(address: str, private: bool) -> None:
    assert is_private(address) is private


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_called_only_where_it_is_allowed(host: str) -> None:
    seen: Seen = []
    async with served(partial(_seen, seen)) as address:
        url = f"http://{host}:{address.partition(':')[2]}"
        async with calling(url, AuthConfig(), allow_private=False) as transport:
            with pytest.raises(ApplicationDown, match=f"{host} is at a private address: set allow_private = true"):
                await transport.send(READ)
        assert seen == []
        async with calling(url, AuthConfig(), allow_private=True) as transport:
            assert (await transport.send(READ)).status == 200


async def test_a_name_is_resolved_once_and_the_address_judged_is_the_one_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that is public when it is judged and private when it is called would lead us inside."""
    asked: list[str] = []
    seen: Seen = []

    async def resolve(self: ThreadedResolver, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        asked.append(host)
        address = "203.0.113.7" if len(asked) == 1 else "127.0.0.1"
        entry = {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [entry]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    monkeypatch.setattr("orchestrator.adapters.network.is_private", lambda address: address.startswith("127."))
    async with served(partial(_seen, seen)) as address:
        url = f"http://app.example:{address.partition(':')[2]}"
        async with calling(url, AuthConfig(), allow_private=False, timeout=0.3) as transport:
            for _ in range(2):
                with pytest.raises(ApplicationDown):
                    await transport.send(READ)
    assert seen == []
    assert asked


async def test_a_redirect_is_not_followed() -> None:
    seen: Seen = []

    def answer(path: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, Any]]:
        seen.append(headers)
        return 307, {}

    async with served(answer) as host, calling(f"http://{host}", AuthConfig()) as transport:
        assert (await transport.send(READ)).status == 307
    assert len(seen) == 1


# --- certificates -----------------------------------------------------------------------------------------------------


def _pem(key: Any) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


class Authority:
    """An authority of this test's own, and what it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key.public_key(), None)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), self.certificate.subject)
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(_pem(key))
        return files

    def _sign(self, name: str, key: Any, issuer: x509.Name | None) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(address, critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _server_tls(certificate: tuple[Path, Path], client_ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, certificate))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


async def test_a_certificate_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    seen: Seen = []
    async with served(partial(_seen, seen), _server_tls(theirs.issue("server"))) as host:
        for tls in (tls_context, partial(tls_context, ours.file)):
            async with calling(f"https://{host}", AuthConfig(), tls=tls) as transport:
                with pytest.raises(ApplicationDown, match=r"TLS failed: .*certificate.*auth\.ca_file"):
                    await transport.send(READ)
        async with calling(f"https://{host}", AuthConfig(), tls=partial(tls_context, theirs.file)) as transport:
            assert (await transport.send(READ)).status == 200
    assert len(seen) == 1


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    server, client = authority.issue("server"), authority.issue("client")
    auth = AuthConfig(type="mtls", cert_file=client[0], key_file=client[1], ca_file=authority.file)
    seen: Seen = []
    async with served(partial(_seen, seen), _server_tls(server, authority.file)) as host:
        tls: Callable[[], ssl.SSLContext] = partial(tls_context, auth.ca_file, auth.cert_file, auth.key_file)
        async with calling(f"https://{host}", auth, tls=tls) as transport:
            assert (await transport.send(READ)).status == 200
        async with calling(f"https://{host}", AuthConfig(), tls=partial(tls_context, authority.file)) as transport:
            with pytest.raises(ScimError):
                await transport.send(READ)
    assert len(seen) == 1
    assert "authorization" not in seen[0]


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(UserError, match=r"ca.pem: no certificate or key can be read from it"):
        tls_context(tmp_path / "ca.pem")
