"""Running: one pure worker for a shard, two executors around it, and everything that a run commits."""
