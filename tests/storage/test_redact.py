"""No credentials in what a person or a log reads."""

import pytest

from btc_ray.storage.redact import public_uri, redact

SECRET = "Zm9vYmFyL3NlY3JldA"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"http://user:{SECRET}@host/a.jpg", "http://***@host/a.jpg"),
        (f"https://{SECRET}@host/a.jpg", "https://***@host/a.jpg"),
        (f"https://h/a.jpg?X-Amz-Date=1&X-Amz-Signature={SECRET}&b=2", "https://h/a.jpg?X-Amz-Date=1&X-Amz-Signature=***&b=2"),
        (f"https://h/a.jpg?sv=1&sig={SECRET}", "https://h/a.jpg?sv=1&sig=***"),
        (f"https://h/a?token={SECRET}", "https://h/a?token=***"),
        (f"{{'key': 'AKIA12345', 'secret': '{SECRET}', 'anon': 'false'}}", "{'key': '***', 'secret': '***', 'anon': 'false'}"),
        (f"AccountName=x;AccountKey={SECRET};", "AccountName=x;AccountKey=***;"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        ("abfs://container@account.dfs.core.windows.net/a.jpg", "abfs://container@account.dfs.core.windows.net/a.jpg"),
        ("/data/monkey=1/a@b.jpg", "/data/monkey=1/a@b.jpg"),
        ("s3://bucket/a b#?.jpg", "s3://bucket/a b#?.jpg"),
    ],
)
def test_credentials_are_taken_out_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_values_of_secret_options_are_taken_out_wherever_they_stand() -> None:
    options = {"secret": SECRET, "endpoint_url": "http://store:9000"}
    assert redact(f"no luck with {SECRET} at http://store:9000", options) == "no luck with *** at http://store:9000"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:pw@host/a/b.jpg?sig=x", "https://host/a/b.jpg"),
        ("https://token@host/a.zip?sv=1&sig=a%2Bb::in/b.jpg", "https://host/a.zip::in/b.jpg"),
        ("s3://bucket/what?.jpg", "s3://bucket/what?.jpg"),
        ("abfs://container@account/a.jpg", "abfs://container@account/a.jpg"),
        ("ftp://user:pw@host/a.jpg", "ftp://host/a.jpg"),
        ("/data/a?b=c.jpg", "/data/a?b=c.jpg"),
        ("https://host/a.jpg", "https://host/a.jpg"),
    ],
)
def test_a_uri_as_tables_show_it_has_no_credentials(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown
