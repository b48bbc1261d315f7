"""One file per command: joins domain code and store."""
