"""Decoding algorithms that fairseq lacks."""
