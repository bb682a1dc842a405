"""Cluster: the threads or Dask workers that run tasks."""
