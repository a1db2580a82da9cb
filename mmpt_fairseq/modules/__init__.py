"""Building blocks that take plain arguments and know nothing of fairseq's configs.

Shapes: B batch, T time, D width, F mel bins, L tokens, N visible tokens.
Masks: ``padding`` and ``mask`` are True where a position is padded or masked.
"""
