"""WIRES. The two daemons: cores, sockets and engines joined on one asyncio loop."""
