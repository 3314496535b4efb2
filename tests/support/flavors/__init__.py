"""Flavors that tests define, and the lists that scripted clouds give them."""
