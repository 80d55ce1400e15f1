"""Reads policies of every dialect from YAML and JSON into the one form that is judged (`rules`)."""
