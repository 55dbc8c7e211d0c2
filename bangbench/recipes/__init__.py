"""Whole experiments as data (TOML), and the runner that plays one."""
