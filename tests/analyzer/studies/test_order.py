"""The order of the studies is whole: each is listed once, after those whose results it reads."""

from dataclasses import dataclass

from filterscope.analyzer.run.layout import STUDIES as FOLDERS
from filterscope.analyzer.studies.order import PICTURES, READS, in_order


@dataclass(frozen=True)
class Named:
    name: str


def test_every_folder_of_a_study_is_listed_once():
    assert sorted(READS) == sorted(FOLDERS.split("|"))


def test_a_study_comes_after_those_whose_results_it_reads():
    done = {PICTURES}
    for name, reads in READS.items():
        assert set(reads) <= done, name
        done.add(name)


def test_studies_are_sorted_whatever_order_they_are_listed_in():
    listed = [Named("own"), Named("truth"), Named("tuning"), Named("examples"), Named("weights")]
    assert [study.name for study in in_order(listed)] == ["weights", "examples", "tuning", "truth", "own"]
