"""What web pages share: who may visit, and how they are served."""
