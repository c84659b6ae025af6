"""A page's Content-Security-Policy: nothing is fetched, and no style and no script counts but those that the page was made with.

Styles and the script are allowed by their hashes, so that markup which slipped in from a file name could neither run nor show anything.
A `style` attribute has no hash of its own: each becomes a class with a rule in the page's styles.
Source: Content Security Policy Level 3, https://www.w3.org/TR/CSP3/.
"""

import base64
import hashlib
import re

NOTHING = "'none'"
PLACE = "@policy@"  # stands in the templates where the policy comes

_STYLED = re.compile(r'<(?P<name>[a-zA-Z][\w-]*)(?P<before>[^<>]*?)\sstyle="(?P<style>[^"<>]*)"(?P<after>[^<>]*)>')
_BLOCKS = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def with_policy(page: str) -> str:
    """The page with its policy, and with classes instead of `style` attributes."""
    rules: dict[str, str] = {}

    def classed(match: re.Match[str]) -> str:
        name = rules.setdefault(match["style"], f"own-{len(rules)}")
        attributes = match["before"] + match["after"]
        merged = attributes.replace(' class="', f' class="{name} ', 1)
        return f"<{match['name']}{merged}>" if merged != attributes else f'<{match["name"]} class="{name}"{attributes}>'

    page = _STYLED.sub(classed, page)
    if rules:
        own = "\n".join(f".{name} {{ {_important(style)} }}" for style, name in rules.items())
        page = page.replace("</head>", f"<style>\n{own}\n</style>\n</head>", 1)
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, content in _BLOCKS.findall(page):
        hashes[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'")
    allowed = [f"{kind}-src {' '.join(dict.fromkeys(found or [NOTHING]))}" for kind, found in hashes.items()]
    return page.replace(
        PLACE, "; ".join(["default-src 'none'", "img-src data:", *allowed, "base-uri 'none'", "form-action 'none'"]), 1
    )


def _important(style: str) -> str:
    """Declarations that win over the page's other rules, as those of an attribute do."""
    return " ".join(f"{declaration.strip()} !important;" for declaration in style.split(";") if declaration.strip())
