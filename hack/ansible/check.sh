#!/usr/bin/env bash
# The static checks of the playbooks: syntax, lint, and what the templates make.
# Needs the packages ansible, ansible-lint and yamllint, and reaches no host.
set -euo pipefail
cd "$(dirname "$0")"
test_inventory=../cluster/inventory.yaml

quietly() { # what it says matters only where it fails
	local out
	out=$("$@" 2>&1) || {
		printf '%s\n' "$out" >&2
		echo "check.sh: failed: $*" >&2
		exit 1
	}
}
quietly yamllint --strict . "$test_inventory"
quietly ansible-lint --nocolor
quietly sh -n files/remove-chains.sh
for inventory in hosts "$test_inventory"; do
	quietly ansible-playbook -i "$inventory" --syntax-check init.yaml install.yaml reset.yaml
done
quietly ansible-playbook -i hosts check.yaml
quietly ansible-playbook -i "$test_inventory" -e '{"for_tests": true}' check.yaml
