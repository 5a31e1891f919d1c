from typing import Any

from django.contrib.postgres.expressions import ArraySubquery as DjangosArraySubquery
from django.core.exceptions import EmptyResultSet


class ArraySubquery(DjangosArraySubquery):
    """The rows of a question as an array, which is empty where there are none.

    Django's own is NULL where it knows without asking that there are none, as with `group__in=()`, and an empty array
    where the database finds that out: whoever reads it would have to expect both.
    """

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...]]:
        try:
            return super().as_sql(compiler, connection, *args, **kwargs)
        except EmptyResultSet:
            return f"'{{}}'::{self.output_field.db_type(connection)}", ()
