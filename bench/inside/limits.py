"""Nobody is to wait for a limit in a bench; the limits have tests of their own."""

NO_LIMITS = dict.fromkeys(
    (
        *("DELIVERIES_PER_PERSON_PER_MINUTE", "DELIVERIES_PER_ROLE_PER_MINUTE", "OPEN_REQUESTS_PER_PERSON_AND_ROLE"),
        *("RETURNED_PER_PERSON_AND_ROLE", "REQUESTS_PER_PERSON_PER_HOUR"),
    ),
    "1000000",
)
