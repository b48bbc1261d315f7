"""The hot path of training: the same few functions in plain torch (the reference) and compiled (numba)."""
