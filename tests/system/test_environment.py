"""A record names the packages that something was made with."""

from importlib import metadata

from spark_trainer.system import environment


def test_what_is_not_installed_is_left_out() -> None:
    found = environment.versions(["numpy", "no-such-package", "torch"])
    assert list(found.items()) == [(name, metadata.version(name)) for name in ("numpy", "torch")]
