"""Edge: pages for people."""
