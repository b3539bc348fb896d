"""One worker for one shard, and the executors around it."""
