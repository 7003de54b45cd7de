"""`onibus compare`: several runs on one page, with intervals over seeds."""
