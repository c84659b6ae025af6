"""What a grid of experiments came to: the record, its figures and its page."""
