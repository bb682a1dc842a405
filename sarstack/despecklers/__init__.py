"""Despecklers: the methods, the class that all share, and the registry that finds them."""

from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.registry import (
    as_despeckler,
    default_method,
    despeckler_classes,
    despeckler_names,
    find_class,
    make_despeckler,
)

__all__ = [
    "Despeckler",
    "as_despeckler",
    "default_method",
    "despeckler_classes",
    "despeckler_names",
    "find_class",
    "make_despeckler",
]
