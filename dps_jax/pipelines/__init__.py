"""What a user runs: whole images in physical units through the parts below, tile by tile.

Import the module you need (``restore``, ``tiling``); this package imports none of them.
"""
