"""Which packages share a layer."""

from __future__ import annotations

from imagesmith_oci.groups import LARGE, group, room


def test_large_ones_are_alone_and_the_small_ones_together() -> None:
    sizes = {"a": LARGE, "b": 10, "c": 5 * LARGE, "d": 20}
    assert group(sizes, 50) == [("a",), ("c",), ("b", "d")]


def test_where_layers_are_few_the_smallest_are_merged() -> None:
    sizes = {"a": 3 * LARGE, "b": 2 * LARGE, "c": 4 * LARGE, "d": 1}
    assert group(sizes, 3) == [("a",), ("c",), ("b", "d")]
    assert group(sizes, 1) == [("a", "b", "c", "d")]
    assert group(sizes, -5) == [("a", "b", "c", "d")]


def test_no_image_has_more_than_a_hundred_layers() -> None:
    sizes = {number: LARGE + number for number in range(500)}
    found = group(sizes, room(30, 8))
    assert len(found) == 62
    assert sorted(item for some in found for item in some) == list(range(500))
    assert min(sizes[some[0]] for some in found[:-1]) > max(sizes[item] for item in found[-1])


def test_nothing_is_no_layer() -> None:
    assert group({}, 5) == []
