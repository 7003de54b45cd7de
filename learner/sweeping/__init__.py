"""`onibus sweep`: many runs from one file; what is done is not done again."""
