# `make help` lists the targets. People, git hooks and CI all use these.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: kind-up minikube-up kind-down verify drill deploy canary canary-release canary-down rollback platform-up settings
.PHONY: help demo lifecycle serve check test lint format bench bench-abuse compare ablation image image-offline image-training image-training-offline test-training-image sbom up ui watch sync samples constraints install install-dev clean

PYTHON ?= python3
SEED ?= 0
PORT ?= $(or $(NEOCOG_PORT),8000)
WORKERS ?= $(or $(NEOCOG_WORKERS),1)
LOG_FORMAT ?= $(or $(NEOCOG_LOG_FORMAT),text)
# Where torch comes from. Empty: pip's own index (on Linux that is the CUDA build, gigabytes). cpu, cu130, auto …:
# the PyTorch index of that name, found by uv. See README, "Without a GPU".
TORCH_BACKEND ?=

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: install ## Set up, run the pipeline, serve it, ask it about samples/
	dvc repro
	python -m samples.demo

lifecycle: install ## Play the whole story: drift, alarm, labels, retraining, poison; draws out/lifecycle.png (SEED=0)
	python -m samples.lifecycle --seed $(SEED)

serve: install ## Serve the champion on $PORT (8000), in $WORKERS processes
	@test -d out/champion || dvc repro
	@test -d out/champion || dvc repro --force --single-item promote
	NEOCOG_PORT=$(PORT) NEOCOG_WORKERS=$(WORKERS) NEOCOG_LOG_FORMAT=$(LOG_FORMAT) exec python -m service

test: install-dev ## Run every test, the pipeline and the service included, and list what was skipped
	rm -f .coverage .coverage.*
	coverage run -m pytest -n 2 --dist loadfile
	coverage combine -q
	coverage report
	@cat .pytest_cache/skipped.txt

check: lint ## Check in two minutes: lint, and every test without training, containers, servers and processes
	python -m pytest -q -n 2 -m "not slow"

lint: install-dev ## Check style, types and the direction of imports
	ruff check
	ruff format --check
	mypy
	lint-imports
	hadolint Dockerfile
	check-jsonschema -q --builtin-schema vendor.compose-spec compose.yaml
	check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml
	zizmor --offline --no-progress --quiet .github
	.github/scripts/actionlint.sh

format: install-dev ## Put the code in the one style
	ruff check --fix
	ruff format

bench: install-dev ## Time the service beside the tutorials' form and beside uvicorn alone (needs wrk)
	python -m bench.serving

bench-abuse: install-dev ## Measure what overload, slow clients and bombs cost the others
	python -m bench.abuse

compare: install ## Train and judge every classifier of the line-up: table and curves in out/compare/
	dvc repro pipelines/compare/dvc.yaml

# Where MNIST's four files lie; that is where `data.source: mnist` downloads them to.
MNIST ?= data/mnist

ablation: install ## Train without each part in turn, on MNIST: docs/ablation.md
	python -m bench.ablation $(MNIST)

image: install ## Build the serving image from public bases: neocog:dev
	python -m deploy.image.build

image-offline: install ## Build it without a registry, from Debian's packages and wheels (as root)
	deploy/image/bases.sh
	python -m deploy.image.build --offline

image-training: install ## Build the image that runs the pipeline: neocog-training:dev
	python -m deploy.image.build --target training

image-training-offline: install ## Build that without a registry (as root)
	deploy/image/bases.sh training
	python -m deploy.image.build --offline --target training

test-training-image: install-dev ## Build the training image and run the whole pipeline in it (ten minutes; not in make test)
	NEOCOG_TEST_TRAINING_IMAGE=1 NEOCOG_TEST_ALL=1 pytest tests/deploy/test_training_image.py

sbom: install-dev ## Write out/sbom.json, what the serving image is made of (CycloneDX)
	python -m deploy.image.sbom > out/sbom.json
	@echo "sbom: out/sbom.json has $$(grep -c '"purl"' out/sbom.json) packages"

up: image image-training ## Start everything on this machine: service, MLflow, PostgreSQL, Redis, Prometheus, Alertmanager, Grafana
	docker compose up --detach --wait

settings: install ## Rename the ConfigMap in k8s/ after an edit: its name is a hash of its content
	python -m deploy.cluster.settings

kind-up: install-dev ## Make a kind cluster and start neocog:dev in it (PLAIN=1: kubectl apply -f k8s/)
	python -m deploy.cluster.up kind $(if $(PLAIN),--plain)

minikube-up: install-dev ## Make a minikube cluster and start neocog:dev in it
	python -m deploy.cluster.up minikube

kind-down: ## Delete that kind cluster
	kind delete cluster --name neocog

verify: install-dev ## Check that the cluster runs what was built, and reads held-out digits
	python -m deploy.cluster.verify

drill: install-dev ## Roll, delete, drain and release badly under load; no request may be lost (CONTEXT=…)
	python -m deploy.cluster.drill $(if $(CONTEXT),--context '$(CONTEXT)')

# IMAGE=neocog:dev, or by digest; SHARE=0.2 of the connections
IMAGE ?= neocog:dev
SHARE ?= 0.2
deploy: install-dev ## Roll $IMAGE out in the cluster; roll back if it never gets ready
	python -m deploy.cluster.release deploy $(IMAGE)

canary: install-dev ## Release $IMAGE to $SHARE of the connections
	python -m deploy.cluster.release canary $(IMAGE) --share $(SHARE)

canary-release: install-dev ## Release the canary's image to all pods
	python -m deploy.cluster.release release-canary

canary-down: install-dev ## Delete the canary
	python -m deploy.cluster.release remove

rollback: install-dev ## Roll back to what ran in the cluster before
	python -m deploy.cluster.release rollback

platform-up: install-dev ## Start MLflow with PostgreSQL in the cluster
	python -m deploy.cluster.platform

ui: install ## Open the MLflow UI on port 5000
	@case "$${MLFLOW_TRACKING_URI:=sqlite:///mlflow.db}" in \
	  http*) echo "The tracking server has its own UI: $$MLFLOW_TRACKING_URI" ;; \
	  *) mlflow server --workers 1 --backend-store-uri "$$MLFLOW_TRACKING_URI" --port 5000 ;; \
	esac

watch: install ## Read the journal that $$NEOCOG_JOURNAL names, and say whether the champion still works: out/watch/
	python -m pipelines.watch

sync: install ## Send MLflow the runs it missed while it was down
	python -m pipelines.tracking

samples: install ## Draw samples/ again
	python -m samples.draw

install: $(VENV)/.train ## Set up .venv to train and serve
install-dev: $(VENV)/.dev ## Set up .venv to develop as well

$(VENV)/.train: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.version_info < (3, 11) and \
	  sys.exit('Python 3.11 or newer is needed; name another one: make PYTHON=python3.12 …')"
	$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_BACKEND),)
	pip install -c constraints.txt uv
	uv pip install --python $(VENV)/bin/python -c constraints.txt --torch-backend=$(TORCH_BACKEND) torch
endif
	pip install -c constraints.txt -e '.[serve,train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	pip install -c constraints.txt -e '.[serve,train,postgres,tracing,dev]'
	@touch $@

constraints: ## Resolve every dependency anew and pin it in constraints.txt
	rm -rf out/pin && $(PYTHON) -m venv out/pin
	out/pin/bin/pip install uv torch==2.13.0 -e '.[serve,train,postgres,tracing,dev]'
	echo "# The tested set, every package of it. \`make constraints\` writes it; pip install -c constraints.txt keeps to it." > constraints.txt
	out/pin/bin/pip freeze --exclude-editable | sed -e 's/^\(torch==[0-9.]*\)+.*/\1/' -e 's/^torch @ .*/torch==2.13.0/' >> constraints.txt
	rm -rf out/pin

clean: ## Remove what the project makes: .venv, data, models, runs
	rm -rf $(VENV) .dvc/cache .dvc/tmp data out runs journal.db* mlflow.db mlruns mlartifacts .coverage* .*_cache *.egg-info
