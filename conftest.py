"""For every test below: Hypothesis judges results, not times; these machines are shared."""

from hypothesis import settings

settings.register_profile("imagesmith", deadline=None)
settings.load_profile("imagesmith")
