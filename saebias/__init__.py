"""saebias: is a bilingual image captioner gender-biased, where inside does that live, and can it be removed?"""

__version__ = "0.1.0"
