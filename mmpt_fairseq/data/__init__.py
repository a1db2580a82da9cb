"""Datasets: from manifest rows to batches."""
