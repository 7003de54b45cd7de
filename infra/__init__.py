"""Settings, topics, Kafka clients, the local broker, supervision, metrics, and the ``onibus`` command."""
