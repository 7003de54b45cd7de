"""The label table, its history, corrections by people, export and import, and its web page."""
