"""Parts that methods are built from: networks, cluster heads, neighbours."""
