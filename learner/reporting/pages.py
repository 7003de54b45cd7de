"""The templates of pages: reports, comparisons and players share a style."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, select_autoescape


def page_templates() -> Environment:
    """Templates by name; what they are given is escaped."""
    return Environment(
        loader=PackageLoader("onibus.learner.reporting"), autoescape=select_autoescape(["html", "j2"])
    )
