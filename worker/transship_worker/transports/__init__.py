"""Mechanisms that move an image. A transport knows no cloud's name."""
