"""Building blocks with plain arguments, independent of fairseq's configs.

Shapes: B batch, T time, D width, F mel bins, L tokens, N visible tokens.
Masks: ``padding``, ``mask`` and ``hidden`` are True where a position is padded or masked.
"""
