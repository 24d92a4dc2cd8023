"""Hyper-parameter search: a study of a recipe, whose trials are runs that share the artifact store."""
