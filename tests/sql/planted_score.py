"""A scored captions file in the planted catalogue: some captions per language, one row that was set aside."""

from __future__ import annotations

RUN = "score-aaaaaaaaaaaa"
TEXTS = {"en": {"F": "a woman reads", "M": "a man reads"}, "ar": {"F": "امرأة تقرأ", "M": "رجل يقرأ"}}
FORMS = (("en", "woman", "F", True), ("en", "man", "M", True), ("en", "man city", "M", False), ("ar", "امرأة", "F", True), ("ar", "رجل", "M", True))


def score_rows() -> dict[str, list[dict[str, object]]]:
    """Rows per table, the run's own among them."""
    captions: list[dict[str, object]] = []
    summary: list[dict[str, object]] = []
    for language, texts in TEXTS.items():
        for label, text in texts.items():
            for _ in range(2):
                number = len(captions) + 1
                captions.append(
                    {"side": "file", "row_number": number, "language": language, "image_id": str(number), "context": None, "reference": None, "text": text}
                    | {"label": label, "explicit": True, "ambiguous": False, "evidence": "[]", "rejected": "[]", "n_words": len(text.split())}
                    | {"reference_label": None, "problem": None}
                )
            summary.append(
                {"place": len(summary), "side": "file", "language": language, "context": None, "measure": f"share {label}", "hits": 2, "total": 4}
                | {"value": 0.5, "low": 0.0, "high": 1.0, "note": None}
            )
    captions += [dict.fromkeys(captions[0]) | {"side": "file", "row_number": 9 + n, "problem": "the caption is empty"} for n in range(3)]
    forms = [
        {"side": "file", "language": language, "form": form, "gender": gender, "rule": "person noun" if counted else "fixed phrase: club", "counted": counted}
        | {"captions": 2}
        for language, form, gender, counted in FORMS
    ]
    benchmark = {"place": 0, "dataset": "emoji", "part": "all", "language": "en", "gender": "F", "measure": "sentence accuracy", "hits": 84, "n": 84}
    tables: dict[str, list[dict[str, object]]] = {
        "scored_captions": captions,
        "score_summary": summary,
        "score_forms": forms,
        "score_benchmark": [benchmark | {"value": 1.0, "low": 0.956, "high": 1.0}],
    }
    for rows in tables.values():
        for row in rows:
            row["run_id"] = RUN
    return tables | {"runs": [{"run_id": RUN, "stage": "score", "fingerprint": "a" * 12, "model": None, "parents": [], "config": "{}"}]}
