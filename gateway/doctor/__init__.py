"""Says why federation fails: walks the way that a peer walks to us, or we to a peer, and names the step that breaks."""
