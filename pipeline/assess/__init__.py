"""Verification, victims, retrieval and reports."""
