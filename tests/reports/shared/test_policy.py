"""A page lets nothing run and nothing show but what it was made with."""

import base64
import hashlib
import re

from btc_ray.reports.shared.policy import with_policy

PAGE = """<html><head><meta http-equiv="Content-Security-Policy" content="@policy@"><style>
p { color: red; }
</style></head><body><i class="bar" style="width: 12.5%"></i><td style="--share: 0.4">x</td><i class="bar" style="width: 12.5%"></i>
<script type="application/json" id="rows">["@policy@"]</script><script>
let a = 1;
</script></body></html>"""


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def policy(page: str) -> str:
    found = re.search(r'Policy" content="([^"]*)"', page)
    assert found
    return found[1]


def test_styles_and_the_script_are_allowed_by_their_hashes_and_nothing_else_is() -> None:
    page = with_policy(PAGE)
    told = policy(page)
    assert told.startswith("default-src 'none'; img-src data:; ")
    assert f"'sha256-{digest(chr(10) + 'p { color: red; }' + chr(10))}'" in told
    assert f"script-src 'sha256-{digest(chr(10) + 'let a = 1;' + chr(10))}'" in told
    assert "unsafe" not in told
    assert '["@policy@"]' in page, "only the first stands for the policy"


def test_a_style_attribute_becomes_a_class_with_a_rule() -> None:
    page = with_policy(PAGE)
    assert "style=" not in page
    assert page.count('class="own-0 bar"') == 2
    assert '<td class="own-1">' in page
    assert ".own-0 { width: 12.5% !important; }" in page
    assert ".own-1 { --share: 0.4 !important; }" in page


def test_a_page_without_a_script_runs_none() -> None:
    assert "script-src 'none'" in policy(with_policy(re.sub(r"<script>.*?</script>", "", PAGE, flags=re.DOTALL)))
