"""What only the paper on BANG needs: its numbers, its tables, claims and figures; the report loads it by name."""
