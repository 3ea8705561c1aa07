"""TALKS. Sockets: the h11 server, the streaming client, the relay and the control client."""
