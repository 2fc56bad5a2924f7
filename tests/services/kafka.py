"""A single Kafka broker in KRaft mode, from the jars that Maven resolves for pom.xml."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.services.server import LOOPBACK, Server, run

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).with_name("target")

CLUSTER_ID = "am1sLXRlc3RzLWNsdXN0ZQ"

SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=BROKER://{host}:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{controller_port}
log.dirs={data}

# A topic that nobody created is a mistake, here as in production.
auto.create.topics.enable=false

# One broker: every internal topic has one replica, and few partitions, since each costs time at every start.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# A test waits for every second that a group waits for members who may still come.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# A killed broker may not come back before the session of its former life has run out (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# Small files: deleting and rolling segments happens within a test, and index files are not 10 MB each.
log.segment.bytes=16777216
log.index.size.max.bytes=1048576

# As docker-compose.yml has it: nothing is denied until somebody denies it.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


class KafkaServer(Server):
    """Broker and controller in one process; the controller listens on the port after the broker's."""

    name: ClassVar[str] = "kafka"
    ports_needed: ClassVar[int] = 2

    def __init__(self, folder: Path, port: int = 0, heap: str = "512m") -> None:
        super().__init__(folder, port)
        self._heap = heap

    @property
    def bootstrap(self) -> str:
        """The `bootstrap.servers` of a client."""
        return f"{LOOPBACK}:{self.port}"

    @classmethod
    def missing(cls) -> str | None:
        if _java() is None:
            return "Kafka needs Java 17 or newer, and there is no `java`: apt-get install default-jre-headless"
        if _cached_class_path() is None and shutil.which("mvn") is None:
            return "Kafka's jars come through Maven, and there is no `mvn`: apt-get install maven"
        return None

    def _prepare(self) -> None:
        settings = SETTINGS.format(
            host=LOOPBACK, port=self.port, controller_port=self.port + 1, data=self.folder / "data"
        )
        self._settings.write_text(settings)
        if not (self.folder / "data" / "meta.properties").exists():
            arguments = ("format", "--standalone", "--cluster-id", CLUSTER_ID, "--config", self._settings)
            run([*self._jvm("128m"), "kafka.tools.StorageTool", *arguments], "formatting Kafka's storage")

    def _command(self) -> list[str | Path]:
        return [*self._jvm(self._heap), "kafka.Kafka", self._settings]

    def _answers(self) -> bool:
        """A broker accepts connections before it has loaded its topics, so ask that each partition has a leader."""
        try:
            known = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=1)
        except KafkaException:
            return False
        partitions = (partition for topic in known.topics.values() for partition in topic.partitions.values())
        return bool(known.brokers) and all(partition.leader in known.brokers for partition in partitions)

    @property
    def _settings(self) -> Path:
        return self.folder / "server.properties"

    def _jvm(self, heap: str) -> list[str | Path]:
        """The quick compiler and the simple collector halve the start, and a test's broker never lives long."""
        return [
            _java() or "java",
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "-cp",
            _class_path(),
        ]


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return (home and shutil.which("java", path=f"{home}/bin")) or shutil.which("java")


def _class_path() -> str:
    """Resolved once for each content of pom.xml; the jars stay in Maven's own repository."""
    if cached := _cached_class_path():
        return cached
    target = _class_path_file()
    target.parent.mkdir(exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}")  # two runs may resolve at once; each renames a whole file
    run(
        ["mvn", "--batch-mode", "--quiet", "--file", POM, "dependency:build-classpath", f"-Dmdep.outputFile={fresh}"],
        "resolving Kafka's jars with Maven",
    )
    fresh.replace(target)
    return target.read_text().strip()


def _cached_class_path() -> str | None:
    """What was resolved before, unless Maven's repository has been emptied since."""
    try:
        path = _class_path_file().read_text().strip()
    except FileNotFoundError:
        return None
    return path if all(Path(jar).exists() for jar in path.split(os.pathsep)) else None


def _class_path_file() -> Path:
    return CACHE / f"classpath-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
