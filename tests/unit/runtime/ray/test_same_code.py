from flow_nexus_neural.runtime.ray.same_code import code_digest


def test_the_digest_is_that_of_the_modules_wherever_they_lie(tmp_path):
    for place in ("one", "other"):
        (tmp_path / place / "inner").mkdir(parents=True)
        (tmp_path / place / "inner" / "a.py").write_text("x = 1\n")
        (tmp_path / place / "data.json").write_text(place)
    one, other = code_digest(tmp_path / "one"), code_digest(tmp_path / "other")
    assert one == other
    (tmp_path / "other" / "inner" / "a.py").write_text("x = 2\n")
    assert code_digest(tmp_path / "other") != one
    (tmp_path / "one" / "inner" / "a.py").rename(tmp_path / "one" / "inner" / "b.py")
    assert code_digest(tmp_path / "one") != one
