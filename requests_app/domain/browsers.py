"""Which browser somebody uses, in words that people know it by: `Firefox on Linux`.

What a browser calls itself is for machines, and whoever sends it writes it: in a mail it frightens, or says anything.
"""

import re

# By the first that is found: most call themselves by others' names too.
_BROWSERS = {
    "Edge": r"\bEdg(e|A|iOS)?/",
    "Opera": r"\bOPR/",
    "Samsung Internet": r"\bSamsungBrowser/",
    "Firefox": r"\b(Firefox|FxiOS)/",
    "Chrome": r"\b(Chrome|Chromium|HeadlessChrome|CriOS)/",
    "Safari": r"\bVersion/.*\bSafari/",
}
_SYSTEMS = {
    "an iPhone": r"\biPhone\b",
    "an iPad": r"\biPad\b",
    "Android": r"\bAndroid\b",
    "Windows": r"\bWindows\b",
    "ChromeOS": r"\bCrOS\b",
    "a Mac": r"\bMac OS X\b|\bMacintosh\b",
    "Linux": r"\bLinux\b",
}


def in_words(user_agent: str) -> str:
    """Empty where it is none that people know."""
    browser, system = _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent)
    return f"{browser} on {system}" if browser and system else browser


def _first(names: dict[str, str], user_agent: str) -> str:
    return next((name for name, pattern in names.items() if re.search(pattern, user_agent)), "")
