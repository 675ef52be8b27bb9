"""A campaign on the workers of a Dask cluster."""
