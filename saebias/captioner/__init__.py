"""A small bilingual image captioner whose gender skew was planted, so that the truth about it is known."""
