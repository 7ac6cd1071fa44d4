"""Edge: the OCM API. Each handler reads, lets the core parse, calls one use case, and answers."""
