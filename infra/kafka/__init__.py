"""Kafka: clients, topics, codecs, transactions, access rights, consumer lag."""
