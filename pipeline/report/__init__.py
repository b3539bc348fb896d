"""Pages for people: templates in which everything that comes from data is escaped."""
