"""The bench: what protection costs on this machine."""
