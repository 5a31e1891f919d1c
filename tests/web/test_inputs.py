"""Plain inputs are drawn without templates, and look as Django's own."""

from typing import Any

import pytest
from django import forms
from django.forms.renderers import TemplatesSetting
from django.utils.safestring import mark_safe

from requests_app.delivery.web.forms import Renderer

ATTRIBUTES: list[dict[str, Any]] = [
    {},
    {"id": "x", "required": True, "disabled": False, "data-words": "\"quoted\" & <so> 'on'", "min": 5, "nothing": None},
    {"checked": True, "aria-label": mark_safe("&lt;ready&gt;")},
]


@pytest.mark.parametrize(
    "kind",
    [
        *(forms.TextInput, forms.HiddenInput, forms.NumberInput, forms.EmailInput, forms.PasswordInput),
        *(forms.CheckboxInput, forms.DateInput, forms.TimeInput, forms.DateTimeInput, forms.URLInput),
    ],
)
def test_an_input_is_drawn_as_django_draws_it(kind: type[forms.Widget]) -> None:
    for value in (None, "", "<script>alert('\"&')</script>", 7, True, False, mark_safe("a&amp;b"), "ä"):
        for attributes in ATTRIBUTES:
            widget = kind(attrs=attributes)
            drawn = widget.render("name<", value, renderer=Renderer())
            assert drawn == widget.render("name<", value, renderer=TemplatesSetting()).strip()
