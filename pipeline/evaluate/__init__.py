"""What models learn from a corpus: victims, retrieval, attacks."""
