"""What a reader should see first of a run: the worklist and its page."""
