"""Tools that look inside: each computes what its name says, on plain arrays."""
