"""What all tests share."""

from hypothesis import settings

settings.register_profile("house", deadline=None)  # the machine is shared: an example's time says nothing
settings.load_profile("house")
