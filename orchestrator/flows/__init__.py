"""Load, decide, save: thin flows between the ports and the domain. No SQL, no HTTP, no Kafka in here."""
