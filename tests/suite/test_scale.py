"""The command `scale`: its table, and mistakes in what it is asked."""

from __future__ import annotations

import pytest

from suite.cli import main


def test_the_table_of_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "--alg", "all", "--params", "1M,d2r,300", "--modules", "4"]) == 2
    capsys.readouterr()  # modules is not a field of mtsac
    assert main(["scale", "--alg", "mtsac,d2r", "--params", "1M,actor=684240,300"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "MT10, preset scaling"
    table = [line.split() for line in lines[2:-2]]
    assert [line[:2] for line in table] == [
        [name, size] for name in ("mtsac", "d2r") for size in ("1M", "actor=684240", "300")
    ]
    assert table[4] == ["d2r", "actor=684240", "400", "400", "684,240", "1,369,874", "2,054,114"]
    for line in (table[0], table[3]):
        actor, critics, total = (int(cell.replace(",", "")) for cell in line[4:])
        assert actor + critics == total
        assert abs(total / 1e6 - 1) < 0.01
    assert "no total of mtsac has 300" in lines[-2]
    assert "no total of d2r has 300" in lines[-1]


def test_a_size_that_is_a_mistake_ends_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "--params", "1M,big"]) == 2
    assert "match: 'big'" in capsys.readouterr().err
