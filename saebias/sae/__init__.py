"""Sparse autoencoders: what they are, how they are trained, judged, compared and kept."""
