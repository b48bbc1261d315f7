"""Figures and the report: tables in, matplotlib figures and one HTML file out."""
