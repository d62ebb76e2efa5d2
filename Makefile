# Every verb works from a fresh clone on Debian or Ubuntu with Go and apt; conformance after e2e.
export CGO_ENABLED = 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: help build image demo test test-api cluster cluster-down e2e conformance bench chaos fuzz record check clean

help: ## Say what the verbs do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/svcproxy
	go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/svcproxy ./cmd/svcproxy

image: build ## Write bin/svcproxy.oci.tar, the image, built by buildah without a daemon (root)
	hack/need.sh image
	hack/image.sh

demo: need build ## Show the main job on real traffic, in network namespaces (root; KEEP=1 leaves it up; CLUSTER=1: on make cluster's)
	$(if $(CLUSTER),hack/cluster/demo.sh,hack/lab/demo.sh)

test: need check build ## All tests that must pass, those on the kernel included (root)
	SVCPROXY_TEST_REQUIRE_KERNEL=1 go test ./...

cluster: ## Kubernetes on four machines in namespaces, with svcproxy (root; NODES=, CNI=, PROXY=)
	hack/cluster/cluster.sh up

cluster-down: ## End those machines
	hack/cluster/cluster.sh down

e2e: cluster ## Upstream's own tests of services on that cluster (root; the first time it builds them, in minutes)
	hack/cluster/cluster.sh import "$$(hack/e2e/images.sh)/e2e.tar"
	hack/cluster/cluster.sh run hack/e2e/run.sh

conformance: ## Write docs/conformance.md from the results of make e2e
	go run ./hack/e2e/report $${XDG_CACHE_HOME:-$$HOME/.cache}/svcproxy/e2e-results >docs/conformance.md.new
	mv docs/conformance.md.new docs/conformance.md

API = etcd kube-apiserver kube-controller-manager kube-proxy

test-api: need ## The tests against a real API server and kube-proxy (root; the first time it builds Kubernetes, in minutes)
	bin=$$(hack/kubernetes/build.sh $(API)) && SVCPROXY_TEST_API_BIN=$$bin go test -count=1 -p 1 -timeout 20m ./hack/api ./hack/chaos

BENCH = $(if $(QUICK),-quick,-docs docs)

bench: build ## Measure svcproxy beside kube-proxy and write docs/performance.md (root; QUICK=1; BENCH="-services 100")
	hack/need.sh bench
	go build -o bin/bench ./hack/bench
	bin=$$(hack/kubernetes/build.sh etcd kube-apiserver kube-proxy) && bin/bench -bin "$$bin" $(BENCH)

FOR ?= 10m

chaos: need build ## Make things go wrong around svcproxy and kube-proxy, for FOR=10m each on each backend, and write docs/reliability.md (root)
	go build -o bin/chaos ./hack/chaos
	bin=$$(hack/kubernetes/build.sh etcd kube-apiserver kube-proxy) && for p in svcproxy kube-proxy; do for b in nft legacy; do \
		bin/chaos -bin "$$bin" -proxy $$p -backend $$b -for $(FOR) -json bin/chaos-$$p-$$b.json || exit; done; done
	bin/chaos -document docs/reliability.md bin/chaos-*.json

FUZZTIME ?= 2m

fuzz: ## Fuzz the ways from objects, files and flags to rules, and the parser, for FUZZTIME=2m each
	for p in $$(go list ./cmd/... ./pkg/...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit; done; done

record: need ## Record anew what the real kube-proxy makes of the test cases, and its configuration (root; the first time it builds kube-proxy)
	hack/kubernetes/config.sh
	cd hack/kubernetes && go run ./record -kube-proxy "$$(./build.sh kube-proxy)/kube-proxy" $(CURDIR)/cmd/svcproxy/testdata/kube-proxy/*.txtar \
		$(CURDIR)/cmd/svcproxy/testdata/answers/*.txtar

check: ## Format, vet, staticcheck, shellcheck, ansible-lint, the purity of pkg/rules and pkg/picture, no methods found by name
	hack/need.sh check
	hack/verify.sh

.PHONY: need
need: ## Install by package name what demo and test miss
	hack/need.sh

clean: ## Remove what was built
	rm -rf bin
