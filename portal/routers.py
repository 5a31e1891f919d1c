class OneDatabase:
    """The `owner` alias is the same database through another role: only migrations may use it."""

    def db_for_read(self, model: object, **hints: object) -> str:
        return "default"

    def db_for_write(self, model: object, **hints: object) -> str:
        return "default"

    def allow_relation(self, one: object, other: object, **hints: object) -> bool:
        return True
