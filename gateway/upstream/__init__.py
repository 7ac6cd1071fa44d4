"""An edge: every path that is not the gateway's own, streamed to the HTTP server that was there before."""
