"""DECIDES. Pure: no clock, no chance, no I/O; time and ids are arguments."""
