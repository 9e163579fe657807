"""Names of classes: what exporters write into metadata, and ImageNet's list."""

import json

import pytest

from filterscope.analyzer.network.labels import ClassFinder, from_metadata, imagenet

NAMES = ["cat", "dog", "grey wolf"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", "{0: 'cat', 1: 'dog', 2: 'grey wolf'}"),  # Ultralytics: a dict as Python writes it
        ("names", "['cat', 'dog', 'grey wolf']"),
        ("class_names", json.dumps({0: "cat", 1: "dog", 2: "grey wolf"})),  # Deepness
        ("class_names", json.dumps([{"0": "cat", "1": "dog", "2": "grey wolf"}])),  # an entry an output
        ("id2label", json.dumps({"2": "grey wolf", "0": "cat", "1": "dog"})),  # transformers
        ("Classes", json.dumps(NAMES)),
        ("labels", "cat\ndog\ngrey wolf\n"),
        ("labels", "cat, dog, grey wolf"),
        ("class_labels", "0:cat\n1:dog\n2:grey wolf"),
    ],
)
def test_names_are_read_as_exporters_write_them(key, value):
    assert from_metadata({"author": "somebody", key: value}, 3) == NAMES


@pytest.mark.parametrize(
    "value",
    [
        "['cat', 'dog']",
        "{0: 'cat', 1: 'dog', 3: 'grey wolf'}",
        "{0: 'cat', 1: 'dog', 2: ['grey', 'wolf']}",
        "__import__('os').getcwd()",
        "[" * 5000,
        "",
        "3",
    ],
)
def test_what_is_no_list_of_as_many_names_is_not_taken(value):
    assert from_metadata({"names": value}, 3) == []


def test_the_entry_that_fits_is_taken():
    assert from_metadata({"names": "['a', 'b']", "classes": json.dumps(NAMES)}, 3) == NAMES


def test_imagenet_has_a_thousand_names_that_differ_in_letters():
    names = imagenet()
    assert len(names) == len({name.lower() for name in names}) == 1000
    assert not any(name != name.strip() or "_" in name or not name for name in names)
    # The first, the dogs' first and last, the last animal, the first thing, the last.
    known = {0: "tench", 151: "Chihuahua", 268: "Mexican hairless", 397: "puffer", 398: "abacus", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known


NAMED = ["Great Dane", "three-toed sloth", "tench, Tinca tinca", "crane", "crane", "12", "Owl", "owl"]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("Great Dane", 0),
        ("great_dane", 0),
        ("Three toed-Sloth", 1),
        ("tench", 2),
        ("tinca_tinca", 2),
        ("tench, tinca tinca", 2),
        ("Owl", 6),  # to the letter before all else
        ("owl", 7),
        ("OWL", None),
        ("crane", None),  # two are called so
        ("3", 3),
        ("003", 3),
        ("12", 5),  # a name before a number
        ("8", None),
        ("n01440764", None),  # of ImageNet's 1,000 alone
        ("", None),
    ],
)
def test_a_class_is_found_however_it_is_spelt(name, index):
    assert ClassFinder(NAMED, 8).index(name) == index


def test_wordnet_numbers_are_those_of_imagenets_classes_in_the_usual_order():
    long_names = [f"{name}, of the kind {index}" for index, name in enumerate(imagenet())]
    for names in ((), imagenet(), long_names):
        found = [ClassFinder(names, 1000).index(number) for number in ("n01440764", "n02109047", "n15075141", "n1")]
        assert found == [0, 246, 999, None]
    assert ClassFinder(["x", *imagenet()[:0:-1]], 1000).index("n01440764") is None, "another order"
