"""What a model is worth on labelled images: the record and its page."""
