"""A member's own processes: its configuration, and the programs that it runs with the others."""
