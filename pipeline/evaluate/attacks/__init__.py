"""What someone does to a published corpus, or while training on it, to undo its protection."""
