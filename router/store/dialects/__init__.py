"""The words of databases, one file for each profile."""
