"""Real servers and small stand-ins that the tests share."""
