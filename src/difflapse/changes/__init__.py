"""What changed in a night: so far, the comet among its stars."""
