"""Storage that already exists, behind one small contract (`interface.py`); this package never imports `gateway`."""
