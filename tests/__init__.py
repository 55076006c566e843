"""Tests of the whole project; a package so that the rig can be run as ``python3 -m tests.rig``."""
