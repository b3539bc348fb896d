"""One shard: read, protected, measured, written and committed."""
