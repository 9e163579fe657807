"""The page of a data set with classes, read back and compared with the run's tables."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.examples.class_survey import NO_LABEL_FITS, NO_SCORES
from filterscope.reports.site import data_page, script_numbers
from filterscope.reports.site.data_page import tenths
from filterscope.reports.site.site import render, render_single
from support.pages import read
from support.synthetic_run import synthetic_run
from support.synthetic_studies import write_classes_of_data

TABLES = ("classes", "confusion", "reliability", "answers", "unit_classes")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    run = Run(synthetic_run(tmp_path_factory.mktemp("run") / "run", studies=True, layers=2, channels=6, images=2))
    return run, render(run).parent


def rows(run, name):
    return run.table(f"examples/{name}.parquet").to_pylist()


def speaking(run):
    """The rows of classes, without those of channels that are silent on the data."""
    silent = {(row["layer"], row["channel"]) for row in rows(run, "units") if row["dead"]}
    return [row for row in rows(run, "unit_classes") if (row["layer"], row["channel"]) not in silent]


def changed(run, folder, name, change):
    """A copy of a run, one of its tables put through `change`."""
    path = shutil.copytree(run.folder, folder) / "examples" / f"{name}.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), path)
    return Run(folder)


def with_classes(run, folder, classes, name="class {}"):
    """A copy of a run whose data set has so many classes."""
    shutil.copytree(run.folder, folder)
    study = json.loads((folder / "examples" / "study.json").read_text())
    with RunWriter(folder, "plan") as writer:
        write_classes_of_data(writer, [layer.json for layer in run.layers if layer.analysed], classes, name)
        writer.write_json("examples/study.json", study)
    return Run(folder)


def test_the_first_sentence_is_the_answer(site):
    run, folder = site
    classes = rows(run, "classes")
    images, right = (sum(row[name] for row in classes) for name in ("images", "right"))
    lead = read(folder / "data.html").select("p", "lead")[0].text
    assert lead == (
        f"Right on {100 * right / images:.1f} % of {images} images; the right class is among its five best for 100 %; "
        "most often it takes class <4> for class <5>: 4 images."
    )


def test_the_matrix_counts_what_the_table_counts(site):
    run, folder = site
    page = read(folder / "data.html")
    table = page.select("table", "confusion")[0]
    heads = [th.text for th in page.select("th", within=table) if th.attributes["scope"] == "col"]
    counts = {}
    for line in page.select("tr", within=page.select("tbody", within=table)[0]):
        (label,) = page.select("th", within=line)
        for answer, cell in zip(heads, page.select("td", within=line), strict=True):
            if cell.text:
                counts[label.text, answer] = int(cell.text)
                assert cell.attributes["class"].startswith("right" if label.text == answer else "wrong")
    names = {row["index"]: row["name"] for row in rows(run, "classes")}
    assert counts == {(names[row["label"]], names[row["predicted"]]): row["images"] for row in rows(run, "confusion")}


def test_each_class_has_a_row_the_worst_first(site):
    run, folder = site
    page = read(folder / "data.html")
    lines = page.select("tr", within=page.select("tbody", within=page.select("table", "by-class")[0])[0])
    of_class = {row["index"]: row for row in rows(run, "classes")}
    assert len(lines) == len(of_class)
    shares = []
    for line in lines:
        row = of_class[int(line.attributes["id"].removeprefix("class-"))]
        cells = (cell.text for cell in page.select(within=line) if cell.tag in ("th", "td"))
        name, images, right, precision, _, rival = cells
        assert (name, images) == (row["name"], str(row["images"]))
        shares.append(row["right"] / row["images"] if row["images"] else 2)
        assert right.strip() == (f"{row['right'] / row['images']:.0%}".replace("%", " %") if row["images"] else "–")
        share = f"{row['right'] / row['predicted']:.0%}" if row["predicted"] else "–"
        assert precision == share.replace("%", " %")
        mistaken = row["images"] - row["right"]
        assert rival.startswith(f"class <{row['index'] + 1}>" if mistaken else "–")
    assert shares == sorted(shares)


def test_the_surest_mistakes_come_first_with_their_pictures(site):
    run, folder = site
    page = read(folder / "data.html")
    wrong = [r for r in rows(run, "answers") if r["label"] is not None and r["best"][0] != r["label"]]
    lists = [one for one in page.select("ol", "mistakes") if "of-pair" not in one.classes]
    shown = [item for one in lists for item in page.select("li", within=one)]
    assert len(shown) == len(wrong)
    explained = [row["image"] for row in rows(run, "mistakes")]
    wrong.sort(key=lambda row: row["image"] not in explained)
    example_of = {row["image"]: row["example"] for row in rows(run, "pictures") if row["atlas"]}
    pictured = 0
    for item, row in zip(shown, wrong, strict=True):  # equally sure: by number
        assert f"class <{row['best'][0]}>" in item.text
        assert f"is class <{row['label']}>" in item.text
        assert row["name"] in item.text
        picture = page.select("span", "pic", within=item)[0]
        assert ("blank" in picture.classes) == (row["image"] not in example_of)
        if row["image"] in example_of:
            assert f"e-t{example_of[row['image']]}" in picture.classes
            pictured += 1
    assert pictured


def test_a_mistake_that_is_one_of_the_users_images_leads_to_its_attributions(site, tmp_path):
    run, _ = site
    wrong = next(r["image"] for r in rows(run, "answers") if r["label"] is not None and r["best"][0] != r["label"])
    source = run.images[1].source
    copy = changed(run, tmp_path / "run", "pictures", lambda all_rows: [
        row | ({"source": source} if row["image"] == wrong else {}) for row in all_rows
    ])  # fmt: skip
    page = read(render(copy).parent / "data.html")
    links = [link for one in page.select("ol", "mistakes") for link in page.select("a", within=one)]
    assert {link.attributes["href"] for link in links} == {"image-1.html", "image-1.html#why"}


def test_each_number_of_the_matrix_leads_to_its_images(site):
    run, folder = site
    page = read(folder / "data.html")
    cells = [td for td in page.select("td", within=page.select("table", "confusion")[0]) if td.text]
    of_pair = {(row["label"], row["predicted"]): row["images"] for row in rows(run, "confusion")}
    assert len(cells) == len(of_pair)
    answers = {}
    for row in rows(run, "answers"):
        if row["label"] is not None:
            answers.setdefault((row["label"], row["best"][0]), []).append(row)
    for cell in cells:
        (link,) = page.select("a", within=cell)
        anchor = link.attributes["href"].removeprefix("#")
        label, predicted = map(int, anchor.removeprefix("answered-").split("-"))
        assert int(cell.text) == of_pair[label, predicted]
        (section,) = [one for one in page.select("section", "answered") if one.attributes["id"] == anchor]
        way = 1 if label == predicted else -1
        expected = sorted(answers[label, predicted], key=lambda row: (way * row["probability"][0], row["image"]))
        items = page.select("li", within=section)
        assert len(items) == min(len(expected), data_page.IMAGES_OF_PAIR)
        assert all(row["name"] in item.text for item, row in zip(items, expected, strict=False))
    heads = [a.attributes["href"] for th in page.select("th") for a in page.select("a", within=th)]
    assert set(page.ids) >= {head.removeprefix("#") for head in heads if head.startswith("#")}
    assert {f"#class-{row['index']}" for row in rows(run, "classes")} <= set(heads)


def test_many_pairs_show_few_images_each(site, monkeypatch):
    monkeypatch.setattr(data_page, "ANSWERED", 1)
    page = read(render(site[0]).parent / "data.html")
    assert {len(page.select("li", within=one)) for one in page.select("section", "answered")} <= {1, 2}
    monkeypatch.undo()
    render(site[0])


def test_a_mistake_in_a_file_of_many_leads_to_the_page_of_its_image(site, tmp_path):
    run, _ = site
    wrong = next(r["image"] for r in rows(run, "answers") if r["label"] is not None and r["best"][0] != r["label"])
    copy = changed(run, tmp_path / "run", "pictures", lambda all_rows: [
        row | ({"source": "/data/many.npz[7]"} if row["image"] == wrong else {}) for row in all_rows
    ])  # fmt: skip
    for number in (0, 1):  # both in one file
        path = copy.folder / "images" / f"{number}.json"
        facts = json.loads(path.read_text()) | {"source": "/data/many.npz", "name": f"many.npz[{8 - number}]"}
        path.write_text(json.dumps(facts))
    page = read(render(Run(copy.folder)).parent / "data.html")
    links = {link.attributes["href"] for one in page.select("ol", "mistakes") for link in page.select("a", within=one)}
    assert links == {"image-1.html", "image-1.html#why"}


def test_scripts_get_the_numbers_of_the_page(site, monkeypatch):
    run, folder = site
    numbers = json.loads((folder / "assets" / "data.json").read_text())
    assert numbers["classes"] == rows(run, "classes")
    assert numbers["confusion"] == rows(run, "confusion")
    assert [row["images"] for row in numbers["reliability"]] == [row["images"] for row in rows(run, "reliability")]
    assert (numbers["images"], numbers["right"]) == tuple(
        sum(row[name] for row in rows(run, "classes")) for name in ("images", "right")
    )
    by_image = {row["image"]: row for row in rows(run, "answers")}
    assert {row["image"] for row in numbers["answers"]} == by_image.keys()
    assert numbers["answers_left_out"] == 0
    for row in numbers["answers"]:
        assert row == by_image[row["image"]]
    page = read(folder / "data.html")
    assert "assets/data.json" in [link.attributes.get("href") for link in page.select("a")]
    monkeypatch.setattr(script_numbers, "ANSWERS", 3)
    few = script_numbers.of_data(run)
    assert len(few["answers"]) == 3
    assert few["answers_left_out"] == len(by_image) - 3
    assert all(row["label"] not in (None, row["best"][0]) for row in few["answers"]), "wrong answers first"
    classes = json.loads((folder / "assets" / "classes.json").read_text())["classes"]
    of_run = run.table("classes/classes.parquet").to_pylist()
    assert [{name: row[name] for name in classes[0]} for row in of_run] == classes


def test_what_speaks_for_a_mistake_is_laid_over_it(site):
    run, folder = site
    page = read(folder / "data.html")
    places = [int(re.search(r"why-t(\d+)", one.attributes["class"])[1]) for one in page.select("span", "why-a")]
    explained = run.table("examples/mistakes.parquet").to_pylist()
    assert len(places) == len(explained) > 0
    with Image.open(folder / "assets" / "data-a-0.webp") as image:
        sheet = np.asarray(image.convert("RGB"), int)
    for place, row in zip(places, explained, strict=True):
        signed = run.tile(row)
        height, width = signed.shape[:2]
        down, across = divmod(place, sheet.shape[1] // width)
        shown = sheet[down * height : (down + 1) * height, across * width : (across + 1) * width]
        red = shown[..., 0] - shown[..., 2]
        assert red[signed[..., 0] > 200].mean() > red[signed[..., 0] < 50].mean() + 50
    page = read(folder / "method.html")
    assert "attribution" in page.ids


def test_calibration_is_the_mean_difference(site):
    run, folder = site
    classes = rows(run, "classes")
    accuracy = sum(row["right"] for row in classes) / sum(row["images"] for row in classes)
    page = read(folder / "data.html")
    figures = page.select("ul", "figures")[0].text
    assert f"{100 * abs(0.9 - accuracy):.1f} %calibration error" in figures
    assert len(page.select("circle")) == 1
    sentence = page.select("p", "lead")[1].text
    images = sum(row["images"] for row in classes)
    share = (accuracy * images + 2) / (images + 4)
    chance = 2 * (share * (1 - share) / (images + 4)) ** 0.5
    gap = abs(0.9 - accuracy)
    says = "about right" if gap <= data_page.CALIBRATED else "few images" if gap <= chance else "-confident"
    assert says in sentence


@pytest.mark.parametrize(("images", "word"), [(4, "So few images"), (400, "under-confident")])
def test_few_right_answers_in_a_row_are_no_evidence_on_probabilities(images, word):
    one = data_page.Calibration(error=0.16, confidence=0.84, accuracy=1.0, points=(), images=images)
    assert word in one.sentence


@pytest.mark.parametrize(
    ("confidence", "word"), [(0.99, "over-confident"), (0.5, "under-confident"), (0.91, "about right")]
)
def test_calibration_says_which_way(site, tmp_path, confidence, word):
    run, _ = site

    def change(bins):
        return [row | ({"confidence": confidence, "accuracy": 0.9} if row["images"] else {}) for row in bins]

    page = read(render(changed(run, tmp_path / "run", "reliability", change)).parent / "data.html")
    assert word in page.select("p", "lead")[1].text


def test_each_class_names_the_units_that_tell_it_best(site):
    run, folder = site
    page = read(folder / "data.html")
    units = speaking(run)
    items = page.select("li", within=page.select("ol", "spoken")[0])
    labelled = [row for row in rows(run, "classes") if row["images"] and any(u["index"] == row["index"] for u in units)]
    assert len(items) == len(labelled)
    slug = {layer.name: layer.slug for layer in run.layers}
    for item, row in zip(items, labelled, strict=True):
        best = sorted((u for u in units if u["index"] == row["index"]), key=lambda u: -u["auc"])[: data_page.UNITS]
        links = page.select("a", "speaker", within=item)
        assert [a.attributes["href"] for a in links] == [f"layer-{slug[u['layer']]}.html#{u['channel']}" for u in best]
        assert [b.text for b in page.select("b", within=item)] == [f"{u['auc']:.2f}" for u in best]


def test_a_units_picture_is_that_of_its_channel(site):
    run, folder = site
    page = read(folder / "data.html")
    link = page.select("a", "speaker")[0]
    picture = page.select("span", "pic", within=link)[0]
    sheet, tile = (int(re.search(rf"data-{letter}(\d+)", picture.attributes["class"])[1]) for letter in ("s", "t"))
    slug, channel = re.fullmatch(r"layer-(.+)\.html#(\d+)", link.attributes["href"]).groups()
    layer = next(layer.name for layer in run.layers if layer.slug == slug)
    row = next(
        r for r in run.units.to_pylist()
        if (r["layer"], r["channel"], r["objective"], r["method"]) == (layer, int(channel), "channel", "ascent")
    )  # fmt: skip
    expected = data_page.thumbnail(run.tile(row), data_page.UNIT_SIDE).astype(int)
    side = data_page.UNIT_SIDE
    with Image.open(folder / "assets" / f"data-u-{sheet}.webp") as image:
        columns = image.width // side
        top, left = divmod(tile, columns)
        shown = np.asarray(image.convert("RGB"), int)[top * side : (top + 1) * side, left * side : (left + 1) * side]
    assert np.abs(shown - expected).mean() < 12  # it is lossy
    assert np.abs(shown[::-1] - expected).mean() > np.abs(shown - expected).mean()


@pytest.mark.parametrize(
    ("shape", "filled"), [((8, 8, 3), (64, 64)), ((200, 100, 1), (64, 32)), ((5, 10, 4), (64, 64))]
)
def test_a_thumbnail_is_as_large_as_its_square_allows(shape, filled):
    tile = data_page.thumbnail(np.zeros(shape, np.uint8), 64)
    assert tile.shape == (64, 64, 3)
    dark = (tile == 0).all(axis=2)
    assert dark.any()
    assert (tile[~dark] == data_page.GREY).all()
    if shape[2] != 4:
        assert (dark.any(axis=1).sum(), dark.any(axis=0).sum()) == filled


def test_a_units_view_gets_its_classes(site):
    run, folder = site
    layer = run.layers[1]
    text = (folder / "assets" / f"{layer.slug}-u0.js").read_text(encoding="utf-8")
    units = json.loads(f"[{text[12:-3]}]")[3]
    for unit in units:
        own = [r for r in speaking(run) if (r["layer"], r["channel"]) == (layer.name, unit["c"])]
        assert unit.get("k", []) == [[r["name"], pytest.approx(r["auc"], rel=1e-3), r["mean"]] for r in own[:3]]


def test_a_thousand_classes_are_a_picture_and_a_list(site, tmp_path):
    run = with_classes(site[0], tmp_path / "run", 1000, "n" * 300 + " {}")
    folder = render(run).parent
    page = read(folder / "data.html")
    assert not page.select("table", "confusion")
    with Image.open(folder / "assets" / "confusion.webp") as image:
        assert image.size == (1000, 1000)
    (matrix,) = page.select("svg", "matrix")
    assert 20 <= len(page.select("text", within=matrix)) <= 2 * 50
    assert len(page.select("tr", within=page.select("table", "by-class")[0])) == 1001
    assert len(page.select("tr", within=page.select("table", "pairs")[0])) == data_page.PAIRS + 1
    assert max(map(len, page.text.split("\n"))) < 1000, "long names are shortened"
    single = read(render_single(run, tmp_path / "one.html"))
    assert "899 classes with fewer images are not on this page" in single.text


def test_one_class_is_only_right_or_wrong(site, tmp_path):
    run = with_classes(site[0], tmp_path / "run", 2)
    page = read(render(run).parent / "data.html")
    assert page.select("p", "lead")[0].text == "Right on all 20 images."
    assert not page.select("ol", "mistakes")
    assert "confused" not in page.ids
    assert "among five" not in page.select("ul", "figures")[0].text


def test_runs_without_classes_have_no_such_page(site, tmp_path):
    run, _ = site
    older = shutil.copytree(run.folder, tmp_path / "run")
    for name in TABLES:
        (older / "examples" / f"{name}.parquet").unlink()
    path = older / "examples" / "units.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["selectivity"]), path)
    folder = render(Run(older)).parent
    assert not (folder / "data.html").exists()
    assert not [link for link in read(folder / "index.html").select("a") if link.text == "Data"]
    text = (folder / "assets" / f"{run.layers[1].slug}-u0.js").read_text(encoding="utf-8")
    assert all("k" not in unit for unit in json.loads(f"[{text[12:-3]}]")[3])
    assert [link for link in read(site[1] / "index.html").select("a") if link.text == "Data"]


def test_the_pages_of_classes_and_of_data_lead_to_each_other(site):
    _, folder = site
    data, classes = read(folder / "data.html"), read(folder / "classes.html")
    assert {f"classes.html#class-{i}" for i in range(10)} <= {a.attributes.get("href") for a in data.select("a")}
    assert {f"data.html#class-{i}" for i in range(10)} <= {a.attributes.get("href") for a in classes.select("a")}


def test_many_class_pictures_have_a_matrix_with_named_axes(site, tmp_path):
    run, _ = site
    path = shutil.copytree(run.folder, tmp_path / "run") / "classes" / "classes.parquet"
    table = pq.read_table(path)
    first = table.to_pylist()
    scores = np.eye(40) * 0.5 + 0.0125
    many = [first[i % 10] | {"klass": i, "label": f"name {i}", "distribution": scores[i].tolist()} for i in range(40)]
    pq.write_table(pa.Table.from_pylist(many, table.schema), path)
    folder = render(Run(tmp_path / "run")).parent
    page = read(folder / "classes.html")
    (matrix,) = page.select("svg", "matrix")
    names = [text.text for text in page.select("text", within=matrix)]
    assert names == 2 * [f"name {i}" for i in range(40)]
    with Image.open(folder / "assets" / "class-scores.webp") as heat:
        light = np.asarray(heat.convert("L"), int)
    assert (light.argmax(1) == np.arange(40)).all()


def test_per_cents_are_full_only_where_they_are():
    assert [tenths(share) for share in (0, 1, 0.9999, 0.0001, 0.8245)] == ["0 %", "100 %", "99.9 %", "0.1 %", "82.5 %"]


@pytest.mark.parametrize("classes", [None, 3])
def test_the_first_page_says_why_labels_that_fit_no_output_have_no_page(classes, site, tmp_path):
    run, _ = site
    note = NO_LABEL_FITS if classes is None else NO_SCORES
    folder = shutil.copytree(run.folder, tmp_path / "run")
    for name in TABLES:
        path = folder / "examples" / f"{name}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    path = folder / "examples" / "study.json"
    study = json.loads(path.read_text())
    unknown = "Classes of the data set that are none of the network's labels: yy."
    path.write_text(json.dumps(study | {"notes": [unknown, "6 images were measured.", note]}))
    first = read(render(Run(folder)))
    (banner,) = [one for one in first.select("div", "banner") if note in one.text]
    assert unknown in banner.text
    assert not (folder / "site" / "data.html").exists()
    assert not any(note in one.text for one in read(site[1] / "index.html").select("div", "banner"))
