"""Films by the million: the steps of a reading as a Ray Data pipeline, from folders, tables, archives and S3."""
