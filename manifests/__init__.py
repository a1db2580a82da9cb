"""Corpus preparation: corpus -> TSV manifests."""
