"""Joins the two models: the workflow's specification, the server's life, and its client."""
