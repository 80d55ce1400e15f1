"""The command line: parses, calls, renders; the only place that exits."""
