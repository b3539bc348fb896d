"""A run: which shard is next, what came back, who writes, when it ends."""
