"""The training loop, and the contract between it and a method."""
