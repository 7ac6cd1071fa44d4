# `make run`, `make demo` and `make test` set up all they need. See README.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export ROOT ?=
# Tests start gateways by the hundred: where Python is told not to keep what it has compiled, each would begin with that.
export PYTHONDONTWRITEBYTECODE :=

# Foreign judges and clients of the tests: curl and cadaver read and write through the doors, Apache is a WebDAV
# server to receive from, Apache and nginx are servers to stand in front of, systemd-analyze judges the unit, acl sets
# ACLs to be obeyed, litmus judges the WebDAV door; nginx with dav-ext, XRootD and sshd are storage; sftp, scp and sshfs
# come in by the SSH door; disks are made, filled and broken with the last three.
TOOLS := curl cadaver apache2 nginx systemd acl litmus libnginx-mod-http-dav-ext xrootd-server xrootd-server-plugins \
         xrootd-plugins openssh-server openssh-client sshfs fuse3 e2fsprogs mount strace

.PHONY: help install run demo test torture lint bench tools clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

install: $(READY)  ## Make the virtual environment .venv with the command ocm-gateway

$(READY): pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || $(MAKE) --no-print-directory python-venv
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

.PHONY: python-venv
python-venv:  # Debian packs ensurepip apart
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; \
	else echo 'Python cannot make virtual environments: install the package python3-venv.' >&2; exit 1; fi

# Each directory that `make run ROOT=...` has fronted keeps a state of its own, var/at-nas-1a2b3c4d for a /srv/nas. Its
# name may hold what names can: it is quoted for YAML, and that for sed.
run: install  ## Start a gateway on http://localhost:8080 in front of ./var/data, or of ROOT=/srv/nas
ifeq ($(ROOT),)
	@mkdir -p var/data
	$(BIN)/ocm-gateway --config config.example.yaml serve
else
	@root=$$(realpath --canonicalize-existing --no-symlinks -- "$$ROOT"); \
	name=$${root##*/}; site=var/at-$${name//[^[:alnum:]]/-}; \
	site=$${site:0:32}-$$(sha256sum <<< "$$root" | cut -c 1-8); mkdir -p "$$site"; \
	quoted=$$(sed -e "s/'/''/g" -e 's/[\\&|]/\\&/g' <<< "$$root"); \
	sed -e "s|^\( *root:\) \./var/data|\1 '$$quoted'|" -e 's|\./var/|./|' config.example.yaml > "$$site/config.yaml"; \
	$(BIN)/ocm-gateway --config "$$site/config.yaml" serve
endif

demo: install  ## Two gateways on localhost play the whole story and stay up (ONCE=1: end afterwards)
	@command -v curl >/dev/null || $(MAKE) --no-print-directory tools
	@$(BIN)/python tests/demo.py

tools:  # Debian packages that are needed; installed when run as root, named otherwise
	@missing=; for package in $(TOOLS); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else echo "These Debian packages are needed:$$missing" >&2; exit 1; fi; \
	fi

# Many tests wait most of their time, for a time-out or a process that starts: so there are more of them than cores.
TESTS_AT_A_TIME := $(shell echo $$(($$(nproc) * 3 / 2)))

test: install tools  ## Run every test
	$(BIN)/python -m pytest --numprocesses $(TESTS_AT_A_TIME) --dist worksteal

torture: install tools  ## Run what takes long: faults by the thousand (as root, ten minutes), a folder of a million entries
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal tests/torture
	ENTRIES=1000000 $(BIN)/python -m pytest tests/dav/test_big_folders.py -s

lint: install  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: TOOLS := curl wrk apache2 nginx libnginx-mod-http-dav-ext openssh-server openssh-client
bench: install tools  ## Measure against WsgiDAV, rclone, Apache, nginx, boto3 and sftp, in one run; fails when a target is missed
	$(BIN)/python tests/bench/run.py

clean:  ## Remove what make has made, and the data of `make run`
	rm -rf $(VENV) var build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
