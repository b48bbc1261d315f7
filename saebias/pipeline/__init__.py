"""Plans, skips, resumes and records stages."""
