"""What became of a migration: as text, JSON, CSV, and a page with charts."""

from transship.report.model import Cause, Image, Moment, Report

__all__ = ["Cause", "Image", "Moment", "Report"]
