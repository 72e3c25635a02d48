"""From what a user passes as X to batches of tensors."""
