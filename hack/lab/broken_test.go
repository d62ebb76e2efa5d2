package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

// told is what trace says of a setup, as far as the runbook shows it.
type told struct {
	Arrives  string `json:"arrives"`
	Sentence string `json:"sentence"`
	Reasons  []struct {
		Code     string   `json:"code"`
		Sentence string   `json:"sentence"`
		Look     []string `json:"lookAt"`
	} `json:"reasons"`
}

// Each setup is made, a real packet does not arrive, trace says why, and when it is
// undone, the packet arrives. What trace says of them all is docs/troubleshooting.md.
func TestTraceTellsWhatIsBroken(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", bin, "../../cmd/svcproxy")
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			kerneltest.NewLacking(t).Refuse("ns-test/quarantined ->")
			b := brokenLab{t: t, name: "svcproxy-test-broken-" + backend, backend: backend, bin: bin}
			b.up()
			var said []told
			for _, s := range setups() {
				if backend == "nft" || s.both {
					said = append(said, b.run(s))
				}
			}
			if backend == "nft" {
				checkRunbook(t, setups(), said)
			}
		})
	}
}

// brokenLab is the scene in which things are broken.
type brokenLab struct {
	t                  *testing.T
	name, backend, bin string
}

// up starts the scene with the objects of the setups, a client outside, which is
// the hosts' gateway too, and a second address at centos100.
func (b *brokenLab) up() {
	b.t.Cleanup(func() { b.script("down") })
	b.script("up")
	for _, line := range []string{
		"ip -n %[1]s-wire addr add 192.168.0.1/24 dev br0",
		"ip -n %[1]s-wire addr add 172.16.5.5/32 dev br0",
		"ip -n %[1]s-wire route add 10.101.0.0/16 via 192.168.0.100 src 172.16.5.5",
		"ip -n %[1]s-wire route add 192.168.77.0/24 via 192.168.0.100",
		"ip -n %[1]s-centos100 addr add 192.168.77.100/32 dev eth0",
	} {
		words := strings.Fields(fmt.Sprintf(line, b.name))
		kerneltest.Run(b.t, "", words[0], words[1:]...)
	}
	kerneltest.Run(b.t, "", "cp", "testdata/broken.yaml", b.objects())
	b.reaches(&setup{dial: one}) // the last Services but one
	b.reaches(&setup{dial: "10.101.0.10:80"})
}

func (b *brokenLab) objects() string { return filepath.Join("/run", b.name, "objects") }

func (b *brokenLab) script(args ...string) {
	b.t.Helper()
	script(b.t, []string{"LAB=" + b.name, "BACKEND=" + b.backend, "SVCPROXY=" + b.bin, "FLAGS=--nodeport-addresses=192.168.0.0/24,127.0.0.0/8"}, args...)
}

// run makes a setup, asks trace about it, and undoes it.
func (b *brokenLab) run(s setup) (said told) {
	s.host, s.arrives = cmp.Or(s.host, "centos100"), cmp.Or(s.arrives, "no")
	b.shell(&s, s.cause)
	if s.dial != "" {
		if err := b.dial(&s, 300*time.Millisecond); err == nil {
			b.t.Errorf("%q: a client reaches %s all the same", s.symptom, s.dial)
		}
	}
	said = b.trace(&s)
	b.shell(&s, s.undo)
	if s.undo != "" && s.dial != "" {
		b.reaches(&s)
	}
	return said
}

// shell runs commands on the host of a setup.
func (b *brokenLab) shell(s *setup, commands string) {
	b.t.Helper()
	if commands == "" {
		return
	}
	other := map[string]string{"nft": "legacy", "legacy": "nft"}[b.backend]
	cmd := exec.Command("ip", "netns", "exec", b.name+"-"+s.host, "bash", "-euc", commands)
	cmd.Env = append(os.Environ(), "LAB="+b.name, "IPTABLES=iptables-"+b.backend, "OTHER_IPTABLES=iptables-"+other, "PEERS=./lab.sh peers "+s.host, "SVCPROXY="+b.proxy(s.host))
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%q: %s: %v\n%s", s.symptom, commands, err, out)
	}
}

// proxy is the process ID of svcproxy on a host.
func (b *brokenLab) proxy(host string) string {
	for pid := range strings.FieldsSeq(kerneltest.Run(b.t, "", "ip", "netns", "pids", b.name+"-"+host)) {
		if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil && string(comm) == "svcproxy\n" {
			return pid
		}
	}
	b.t.Fatalf("svcproxy does not run on %s", host)
	return ""
}

// namespace is where the client of a setup is.
func (b *brokenLab) namespace(s *setup) string {
	switch {
	case s.from == outside:
		return b.name + "-wire"
	case strings.HasPrefix(s.from, "10.21."):
		return b.name + "-pod-" + s.from
	}
	return b.name + "-" + cmp.Or(s.host, "centos100")
}

// dial connects once.
func (b *brokenLab) dial(s *setup, patience time.Duration) error {
	var conn net.Conn
	var err error
	inside := kerneltest.Inside(b.namespace(s), func() { conn, err = net.DialTimeout("tcp", s.dial, patience) })
	if conn != nil {
		_ = conn.Close()
	}
	return errors.Join(inside, err)
}

// reaches waits until a client gets through, which takes longest where svcproxy was in
// the middle of a write when it was stopped.
func (b *brokenLab) reaches(s *setup) {
	b.t.Helper()
	err := errors.New("not tried")
	for end := time.Now().Add(90 * time.Second); err != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		err = b.dial(s, time.Second)
	}
	if err != nil {
		b.t.Fatalf("%q: %s is not reached when nothing is broken: %v", s.symptom, s.dial, err)
	}
}

// trace asks the command, and holds its answer against the setup.
func (b *brokenLab) trace(s *setup) (said told) {
	args := []string{"netns", "exec", b.name + "-" + s.host, b.bin}
	args = append(append(args, traceArguments(s)...), "-f", b.objects(), "--rules", "kernel", "-o", "json",
		"--hostname-override", s.host, "--cluster-cidr", "10.21.0.0/16", "--nodeport-addresses", "192.168.0.0/24,127.0.0.0/8")
	cmd := exec.CommandContext(context.Background(), "ip", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if s.reason == "" {
		if err == nil {
			b.t.Errorf("%q: no error:\n%s", s.symptom, &stdout)
		}
		said.Sentence = strings.TrimSpace(stderr.String())
		return said
	}
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), &said)
	}
	if err != nil {
		b.t.Fatalf("%q: trace: %v: %s", s.symptom, err, &stderr)
	}
	code := ""
	if len(said.Reasons) > 0 {
		code = said.Reasons[0].Code
	}
	if code != s.reason || said.Arrives != s.arrives {
		b.t.Errorf("%q: arrives: %s, reason %q; want %s, %q\n%+v", s.symptom, said.Arrives, code, s.arrives, s.reason, said)
	}
	return said
}

// traceArguments are those that the runbook shows.
func traceArguments(s *setup) []string {
	args := []string{"trace", "--to", s.to}
	if s.from != "" {
		args = append(args, "--from", s.from)
	}
	if s.in != "" {
		args = append(args, "--in", s.in)
	}
	return append(args, strings.Fields(s.more)...)
}
