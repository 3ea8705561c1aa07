"""TRANSLATES. Bytes and dicts to core types and back, without I/O."""
