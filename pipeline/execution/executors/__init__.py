"""Where shards run: in this process, in a child of it, or on Ray."""
