"""Kafka: consuming on FastStream, publishing on aiokafka, and a broker inside the process for evaluation."""
