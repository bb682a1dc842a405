"""Calibration: digital numbers to backscatter, by the look-up tables of the annotation."""

from functools import lru_cache

from sarstack.conventions import Calibration
from sarstack.readers.sentinel1.annotation import parse_xml, read_vectors
from sarstack.readers.sentinel1.look_up_table import LookUpTable, make_calibration
from sarstack.readers.sentinel1.product import SafeProduct

_ELEMENTS = {"sigma0": "sigmaNought", "beta0": "betaNought", "gamma0": "gamma"}


def read_calibration(product: SafeProduct, member: str, calibration: Calibration) -> LookUpTable:
    """Read the factors ``A`` of the formula ``DN**2 / A**2``.

    Parameters
    ----------
    product : SafeProduct
    member : str
        The calibration annotation of the image.
    calibration : {"sigma0", "beta0", "gamma0"}
        All but ``dn``, which has no table here.

    Returns
    -------
    LookUpTable

    Raises
    ------
    OSError, KeyError, ValueError
        If a table is missing or damaged, or a factor is not above zero.

    Notes
    -----
    A process keeps the last tables that it read; one has about 300 kB.
    """
    return _read_calibration(product, member, calibration, product.modified_ns(member))


@lru_cache(maxsize=16)
def _read_calibration(
    product: SafeProduct, member: str, calibration: Calibration, _modified_ns: int
) -> LookUpTable:
    name = _ELEMENTS[calibration]
    vectors = read_vectors(parse_xml(product, member).iter("calibrationVector"), name, member)
    return make_calibration(vectors, f"{name} in {member}")
