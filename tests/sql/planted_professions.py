"""The planted professions: names in both languages and the planted share of women in each."""

from __future__ import annotations

# English name, Arabic woman / man / neutral form, planted P(woman) in English and in Arabic.
PROFESSIONS = [
    ("artist", "فنانة", "فنان", "شخص يرسم", 0.72, 0.55),
    ("astronaut", "رائدة فضاء", "رائد فضاء", "شخص في الفضاء", 0.30, 0.18),
    ("construction worker", "عاملة بناء", "عامل بناء", "شخص يعمل في البناء", 0.12, 0.08),
    ("cook", "طباخة", "طباخ", "شخص يطبخ", 0.60, 0.66),
    ("detective", "محققة", "محقق", "شخص يحقق", 0.35, 0.22),
    ("farmer", "مزارعة", "مزارع", "شخص يزرع", 0.28, 0.34),
    ("firefighter", "إطفائية", "إطفائي", "شخص من الإطفاء", 0.15, 0.06),
    ("guard", "حارسة", "حارس", "شخص يحرس", 0.22, 0.12),
    ("health worker", "عاملة صحة", "عامل صحة", "شخص في الصحة", 0.80, 0.58),
    ("judge", "قاضية", "قاض", "شخص يقضي", 0.42, 0.20),
    ("mechanic", "ميكانيكية", "ميكانيكي", "شخص يصلح", 0.10, 0.10),
    ("office worker", "موظفة", "موظف", "شخص في المكتب", 0.55, 0.40),
    ("pilot", "طيارة", "طيار", "شخص يطير", 0.25, 0.15),
    ("scientist", "عالمة", "عالم", "شخص من العلماء", 0.48, 0.30),
    ("singer", "مغنية", "مغن", "شخص يغني", 0.75, 0.62),
    ("teacher", "معلمة", "معلم", "شخص يعلم", 0.85, 0.70),
]
LANGUAGES = ("en", "ar")


def planted_share(profession: tuple, language: str, skewed: bool) -> float:
    """The planted P(woman) of a profession in a language."""
    return float(profession[4 if language == "en" else 5]) if skewed else 0.5
