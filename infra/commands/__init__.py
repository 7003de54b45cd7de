"""One module for each ``onibus`` sub-command; each imports the component it runs only when it runs."""
