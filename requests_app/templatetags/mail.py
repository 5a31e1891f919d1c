"""For the templates of mail."""

from django import template

register = template.Library()


@register.filter(is_safe=True)
def one_line(text: str) -> str:
    """However a template is laid out, and whatever line breaks are in a name: or it could pass for a line of ours."""
    return " ".join(str(text).split())
