"""MusicGen under nnsight, its tokens, and the capture of its residual stream."""
