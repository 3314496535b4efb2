"""Reports of a migration: as text, JSON, CSV, or an HTML page with charts."""

from transship.report.model import Cause, Image, Moment, Report
from transship.report.render import FORMATS, Format, render

__all__ = ["FORMATS", "Cause", "Format", "Image", "Moment", "Report", "render"]
