"""What all tests share: how Hypothesis behaves here."""

import os

from hypothesis import settings

# No deadlines: machines here are shared and slow at times, and no test is timed. In CI the same
# examples are drawn every time, so that a run fails only for what the change did; at a desk
# they are new each time.
settings.register_profile("shoal", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("shoal")
