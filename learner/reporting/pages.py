"""The templates of pages: reports, comparisons and players share a style."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, select_autoescape

from onibus.infra.money import dollars


def page_templates() -> Environment:
    """Templates by name; what they are given is escaped."""
    templates = Environment(
        loader=PackageLoader("onibus.learner.reporting"), autoescape=select_autoescape(["html", "j2"])
    )
    templates.globals["dollars"] = dollars
    return templates
