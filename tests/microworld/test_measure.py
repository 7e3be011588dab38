"""The text is as rich as the data page says."""

from microworld import measure


def test_reviews_meet_the_targets_for_variety():
    # The training rows, as the data page reports: the other splits are of fewer films, so of fewer names.
    found = measure.text_figures([row["text"] for row in measure.read("reviews", "train")])
    assert found["word_types"] >= 2000
    assert found["distinct_4_grams"] >= 0.80
    assert found["xz_share"] >= 0.22
    assert found["duplicates"] < 0.01


def test_bag_of_words_neither_fails_nor_solves_the_reviews():
    train, test = measure.read("reviews", "train"), measure.read("reviews", "test")
    assert 0.70 <= measure.bag_of_words(train[: measure.LABELS], test) <= 0.86


def test_repetitive_text_is_told_apart():
    found = measure.text_figures(["the music was good."] * 2000)
    assert found["distinct_4_grams"] < 0.01 and found["duplicates"] > 0.9


def test_pages_are_up_to_date():
    assert (measure.DATA / "microworld" / "README.md").read_text() == measure.card()
    assert (measure.DATA / "README.md").read_text() == measure.data_page()
