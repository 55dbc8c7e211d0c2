"""The command line: the only package that parses options, prints, or draws progress."""
