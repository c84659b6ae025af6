"""What a labelled data set is worth: the record of an audit and its page."""
