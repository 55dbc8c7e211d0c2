"""Records -> rows -> tables and figures. Reads files only; imports no torch."""
