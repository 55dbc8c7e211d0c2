"""The report: records on disk become tidy frames, these tables and figures, and those a page."""
