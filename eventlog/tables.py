"""What `evlog query` offers: tables, columns, types."""
