"""Edge: the operator's way in: a Unix socket for the command line, and metrics and health on a loopback port."""
