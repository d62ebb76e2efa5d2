package kerneltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"svcproxy/pkg/rules"
)

// Features returns, for each feature, what a kernel without it refuses.
func Features() map[rules.Features]string {
	return map[rules.Features]string{
		rules.FeatureComment:     "-m comment",
		rules.FeatureConntrack:   "-m conntrack",
		rules.FeatureAddrtype:    "-m addrtype",
		rules.FeatureMark:        "-m mark|-j MARK",
		rules.FeatureStatistic:   "-m statistic",
		rules.FeatureRecent:      "-m recent",
		rules.FeatureSCTP:        "-p sctp",
		rules.FeatureReject:      "-j REJECT",
		rules.FeatureDNAT:        "-p (tcp|udp) .*-j DNAT",
		rules.FeatureRandomFully: "--random-fully",

		rules.FeatureMasquerade | rules.FeatureRandomFully: "-j MASQUERADE",
	}
}

// Lacking is a kernel that lacks something: commands, first in PATH, that refuse
// what matches a pattern with the real ones' words, and leave the rest to these.
type Lacking struct {
	t   testing.TB
	dir string
}

// restoreScript refuses input as the kernel does: nft names each line, legacy the
// end of the transaction. The real one never sees it, so its table stays as it is.
const restoreScript = `#!/bin/sh
input=$(mktemp -p DIR)
cat >"$input"
echo restore >>DIR/calls
lines=$(grep -nE -f DIR/pattern "$input" | cut -d: -f1)
if [ -z "$lines" ]; then
	REAL "$@" <"$input"
	status=$?
	rm "$input"
	exit $status
fi
echo refused >>DIR/calls
echo "Warning: Extension of a test revision 0 not supported, missing kernel module?" >&2
case NAME in
*-nft-*)
	echo "NAME v1.8.9 (nf_tables): " >&2
	for n in $lines; do
		chain=$(sed -n "${n}s/^-A \([^ ]*\).*/\1/p" "$input")
		echo "line $n: RULE_APPEND failed (No such file or directory): rule in chain $chain" >&2
	done
	rm "$input"
	exit 4
	;;
esac
first=${lines%%[!0-9]*}
commit=$(grep -n '^COMMIT$' "$input" | cut -d: -f1 | while read -r n; do if [ "$n" -gt "$first" ]; then echo "$n"; break; fi; done)
echo "iptables-restore: line $commit failed" >&2
rm "$input"
exit 1
`

const commandScript = `#!/bin/sh
if printf '%s\n' "$*" | grep -qE -f DIR/pattern; then
	echo "NAME v1.8.9: RULE_INSERT failed (No such file or directory): rule in chain $4" >&2
	exit 4
fi
exec REAL "$@"
`

// NewLacking puts the commands into the PATH of a test. At first they refuse nothing.
func NewLacking(t testing.TB) *Lacking {
	t.Helper()
	l := &Lacking{t, t.TempDir()}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, backend := range []string{"-nft", "-legacy"} {
			name := family + backend
			l.install(name, commandScript)
			l.install(name+"-restore", restoreScript)
			l.install(name+"-save", "#!/bin/sh\nexec REAL \"$@\"\n")
		}
	}
	l.Refuse("")
	t.Setenv("PATH", l.dir+":"+os.Getenv("PATH"))
	return l
}

func (l *Lacking) install(name, script string) {
	l.t.Helper()
	real, err := exec.LookPath(name)
	if err != nil {
		l.t.Fatal(err)
	}
	text := strings.NewReplacer("DIR", l.dir, "REAL", real, "NAME", name).Replace(script)
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o755); err != nil {
		l.t.Fatal(err)
	}
}

// Refuse sets what is refused from now on: rules that match an extended regular
// expression of grep; empty: none.
func (l *Lacking) Refuse(pattern string) {
	l.t.Helper()
	if pattern != "" {
		pattern = "^-[AI] .*(" + pattern + ")|^(-w [0-9]+ )?(--wait [0-9]+ )?(-t [a-z]+ )?-[CI] .*(" + pattern + ")\n"
	}
	if err := os.WriteFile(filepath.Join(l.dir, "pattern"), []byte(pattern), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// Calls returns how many restores there were since it was called last, and how
// many of these were refused.
func (l *Lacking) Calls() (restores, refused int) {
	l.t.Helper()
	path := filepath.Join(l.dir, "calls")
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		l.t.Fatal(err)
	}
	return strings.Count(string(text), "restore\n"), strings.Count(string(text), "refused\n")
}
