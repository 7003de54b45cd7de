"""What travels on the bus: Avro schemas, typed records, the codec between them, and ids."""
