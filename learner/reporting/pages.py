"""The templates of pages: reports, comparisons and players share a style."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader

from onibus.infra.money import dollars


def rendered(template: str, **content: Any) -> str:
    """What a template makes of its content, which is escaped."""
    templates = Environment(loader=PackageLoader("onibus.learner.reporting"), autoescape=True)
    templates.globals["dollars"] = dollars
    return templates.get_template(template).render(**content)
