"""For every test below: what the surroundings of a test run must not decide."""

import signal

from hypothesis import settings

# judge results, not times: these machines are shared
settings.register_profile("imagesmith", deadline=None)
settings.load_profile("imagesmith")

# a shell's background job ignores Ctrl-C, and so would every process that the tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
