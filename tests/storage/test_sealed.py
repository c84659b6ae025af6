"""An address with a signature: readable without it by everyone, with it by whoever has the key."""

import pytest

from btc_ray.storage.sealed import KEY, SealedError, seal, unseal

MINE, OTHER = {KEY: "ab" * 32}, {KEY: "cd" * 32}
SIGNED = [
    "https://host/a.jpg?sig=1",
    "https://user:password@host/a.jpg",
    "https://host/b.zip?X-Amz-Signature=2&x=3",
    "https://host/ä b.jpg?sig=4",
    "https://host/a.jpg?btc-ray-sealed=notOurs&sig=5",
]


@pytest.mark.parametrize("address", SIGNED)
def test_what_is_sealed_shows_no_credential_and_comes_back_with_its_key_alone(address: str) -> None:
    sealed = seal(address, MINE)
    assert "password" not in sealed
    assert "sig=" not in sealed
    assert "Signature" not in sealed
    assert unseal(sealed, MINE) == address
    assert unseal(f"{sealed}::in.jpg#frame=3", MINE) == f"{address}::in.jpg#frame=3"
    for options in (OTHER, {}, None):
        with pytest.raises(SealedError, match="which a run does not keep"):
            unseal(sealed, options)


def test_the_same_address_is_sealed_alike_and_once() -> None:
    sealed = seal(SIGNED[0], MINE)
    assert sealed == seal(SIGNED[0], MINE) == seal(sealed, MINE)
    assert sealed != seal(SIGNED[0], OTHER)


@pytest.mark.parametrize("address", ["/data/a.jpg", "s3://bucket/a.jpg", "https://host/a.jpg", "/data/x?btc-ray-sealed=abc.jpg"])
def test_what_has_no_credential_stays_as_it_is(address: str) -> None:
    assert seal(address, MINE) == address
    assert unseal(address, None) == address


def test_without_a_key_nothing_is_sealed() -> None:
    assert seal(SIGNED[0], {}) == SIGNED[0]
