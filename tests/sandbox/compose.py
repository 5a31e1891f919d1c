"""What Docker Compose would make of docker-compose.yml and a `.env`, for tests on machines without Docker.

The part of its interpolation that our file uses: https://docs.docker.com/reference/compose-file/interpolation/
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "daypass"}
_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<how>:?[-?])(?P<other>[^}]*))?\})")


def filled_in(text: str, dotenv: Mapping[str, str]) -> str:
    """`text` with `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?}` and `$$` replaced."""

    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        name, how, other = found["name"], found["how"] or "", found["other"] or ""
        given = dotenv.get(name)
        if given or (given is not None and not how.startswith(":")):
            return given
        assert not how.endswith("?"), f"Compose refuses to start: {name} is missing a value"
        return other

    return _VARIABLE.sub(value, text)


def environment_of(service: str, dotenv: Mapping[str, str]) -> dict[str, str]:
    """The variables a container of `service` gets; a name without a value is passed on, or left out."""
    given = SERVICES[service].get("environment", {})
    passed_on = {name: dotenv[name] for name, value in given.items() if value is None and name in dotenv}
    return passed_on | {name: filled_in(str(value), dotenv) for name, value in given.items() if value is not None}


def command_of(service: str) -> list[str]:
    return shlex.split(SERVICES[service]["command"])


def mounts_of(service: str, dotenv: Mapping[str, str]) -> dict[str, str]:
    """Path in the container → path on the machine."""
    mounts = [filled_in(mount, dotenv).split(":") for mount in SERVICES[service].get("volumes", ())]
    return {inside: outside for outside, inside, *_ in mounts}
