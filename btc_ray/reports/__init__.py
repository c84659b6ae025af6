"""Numbers in, words and pages out: one folder a page, its template beside it."""
