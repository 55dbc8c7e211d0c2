"""What is on disk: models/NAME/, results/NAME/, the typed records, atomic writes. Imports no torch."""
