#!/bin/sh
# Removes the chains of Kubernetes, flannel and CNI plugins with all jumps to them,
# in one transaction for each table, and leaves everybody else's rules as they are.
# Says what it did, and nothing where there was nothing.
set -eu
PATH=$PATH:/usr/sbin:/sbin

for backend in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
	command -v "$backend-save" >/dev/null || continue
	# Without a table named, -save prints those in use and makes none.
	"$backend-save" | awk '
		function ours(chain) { return chain ~ /^(KUBE|FLANNEL|CNI)-/ }
		/^\*/ { print }
		/^:/ { chain = substr($1, 2); if (ours(chain)) { print ":" chain " - [0:0]"; remove[++n] = chain } }
		/^-A/ {
			if (ours($2)) next
			for (i = 3; i < NF; i++)
				if (($i == "-j" || $i == "-g") && ours($(i + 1))) { sub(/^-A/, "-D"); print; next }
		}
		/^COMMIT/ { for (i = 1; i <= n; i++) print "-X " remove[i]; n = 0; print }
	' >/tmp/remove-chains.$$
	trap 'rm -f /tmp/remove-chains.$$' EXIT
	if grep -q '^[:-]' /tmp/remove-chains.$$; then
		"$backend-restore" --noflush </tmp/remove-chains.$$
		echo "$backend: removed $(grep -c '^-X' /tmp/remove-chains.$$) chains"
	fi
done
