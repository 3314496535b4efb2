"""What pytest loads first."""

pytest_plugins = ["tests.support.fixtures"]
