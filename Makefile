# make demo   trains, compares and reports on real data that ships with timecell
# make test   the tests (a few minutes)
# make full   the same with ten times as many examples of every property
# make docs   the documentation, into docs/_build/html (every picture drawn by the code beside it)
# make bench  ours beside other libraries (which get an environment of their own, .venv-peers); writes docs/reference/speed
# All share .venv and install what they need the first time; see tools/venv.sh for PYTHON= and TORCH=.

BIN := .venv/bin

.PHONY: demo test full lint types docs bench clean

demo:
	@tools/venv.sh
	@$(BIN)/timecell demo

test:
	@tools/venv.sh dev
	$(BIN)/python -m pytest -n 2

full:
	@tools/venv.sh dev
	TIMECELL_HYPOTHESIS=full $(BIN)/python -m pytest -n 2

lint:
	@tools/venv.sh dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	@tools/venv.sh dev
	$(BIN)/mypy

docs:
	@tools/venv.sh dev
	$(BIN)/python -m sphinx -E -W --keep-going -q docs docs/_build/html

bench:
	@tools/venv.sh dev
	@benchmarks/peers.sh .venv-peers
	$(BIN)/python -m benchmarks --peers .venv-peers/bin/python

clean:
	rm -rf docs/_build .venv .venv-peers demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
