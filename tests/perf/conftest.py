"""Benchmarks run in a process like a training run's."""

from suite.process import prepare

prepare()
