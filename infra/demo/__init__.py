"""The demo: every component on this machine, looked at while it runs."""
