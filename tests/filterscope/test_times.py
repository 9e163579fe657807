"""Times are read as people write them."""

import pytest

from filterscope.converters.errors import SettingsError
from filterscope.requests.analyze import seconds_of


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2min", 120)])
def test_times_are_read_as_people_write_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3m", "ten", "1e9", "5 days"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(SettingsError, match=r"give a time such as 90s, 10m or 1\.5h"):
        seconds_of(text)
