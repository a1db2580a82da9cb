"""Searches that fairseq does not have."""
