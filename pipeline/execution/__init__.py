"""Running: one pure worker for a shard, two executors around it, and what a run commits."""
