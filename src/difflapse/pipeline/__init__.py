"""The only place where rooms meet: the way of the data, and what runs it."""
