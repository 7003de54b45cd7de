"""The label table, the annotator with its language models and specifications."""
