"""Files are facts, DuckDB is the catalogue."""
