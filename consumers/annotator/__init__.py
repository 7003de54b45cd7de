"""One annotator of the consumer group: from captions on the bus to labels in one transaction."""
