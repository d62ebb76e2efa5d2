#!/usr/bin/env bash
# The static checks.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l cmd pkg hack)
if [ -n "$unformatted" ]; then
	echo "gofmt would change: $unformatted" >&2
	exit 1
fi
go vet ./...
go tool staticcheck ./...

shellcheck --external-sources --source-path=. --severity=warning .ci/run hack/*.sh hack/*/*.sh manifests/*/*.sh
hack/ansible/check.sh

# pkg/rules and pkg/picture are values in, values out: no I/O, clock, log, randomness, no API.
impure=$(go list -f '{{range .Imports}}{{println .}}{{end}}' ./pkg/rules ./pkg/picture |
	grep -E '^(os|os/exec|io/ioutil|net|net/http|time|log|log/slog|math/rand|math/rand/v2|syscall|.*\..*/.*)$' || true)
if [ -n "$impure" ]; then
	echo "pkg/rules and pkg/picture must stay pure but import: $impure" >&2
	exit 1
fi

# Where a method is found by a name that only the running program knows, as text/template does, the linker keeps
# every exported method of every type: of client-go's typed clients too, which made the program 27 MB larger.
linked=$(mktemp -d)
trap 'rm -rf "$linked"' EXIT
if ! go build -o "$linked/svcproxy" -ldflags=-dumpdep ./cmd/svcproxy >"$linked/reached" 2>&1; then
	tail -n 20 "$linked/reached" >&2
	exit 1
fi
reflecting=$(sed -n 's/.* -> \(.*\) [^ ]*<ReflectMethod>$/\1/p;T;q' "$linked/reached")
if [ -n "$reflecting" ]; then
	echo "svcproxy must reach no code that finds methods by name, but reaches $reflecting" >&2
	exit 1
fi

# The rules for objects in files can be looked at anywhere Go runs.
GOOS=windows CGO_ENABLED=0 go build -o "$linked/elsewhere" ./cmd/svcproxy
