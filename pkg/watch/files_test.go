package watch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"svcproxy/pkg/rules"
)

const service = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: ns}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
`

func slice(addr string) string {
	return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: ns, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 80}]
endpoints: [{addresses: [` + addr + `]}]
`
}

// replace writes a file as editors do: beside it, then in its place.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// wait waits for a change after which the condition holds.
func wait(t *testing.T, changed <-chan struct{}, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case <-changed:
			if ok() {
				return
			}
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// served returns the endpoints of the only Service; empty if there is none.
func served(snap *rules.Snapshot) string {
	var out []string
	for _, s := range snap.Services {
		for _, p := range s.Ports {
			for _, e := range p.Endpoints {
				out = append(out, e.Addr.String())
			}
		}
	}
	return strings.Join(out, " ")
}

func TestFilesFollowsADirectory(t *testing.T) {
	dir := t.TempDir()
	replace(t, filepath.Join(dir, "service.yaml"), service)
	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.21.0.1"))
	f := NewFiles([]string{dir}, "here", nil)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- f.Run(ctx) }()
	is := func(want string) func() bool {
		return func() bool { snap, _ := f.Snapshot(); return served(snap) == want }
	}
	wait(t, f.Changed(), "the first state", is("10.21.0.1:80"))
	before, _ := f.Snapshot()

	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.21.0.2"))
	wait(t, f.Changed(), "a file replaced", is("10.21.0.2:80"))

	replace(t, filepath.Join(dir, "slice.yaml"), "{ half a file")
	wait(t, f.Changed(), "a file broken", func() bool { _, ps := f.Snapshot(); return len(ps) == 1 })
	if !is("10.21.0.2:80")() {
		t.Error("a file that cannot be read took its objects away")
	}

	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.21.0.3"))
	wait(t, f.Changed(), "it is whole again", is("10.21.0.3:80"))
	if err := os.Truncate(filepath.Join(dir, "slice.yaml"), 0); err != nil {
		t.Fatal(err)
	}
	wait(t, f.Changed(), "a file emptied", func() bool { _, ps := f.Snapshot(); return len(ps) == 1 })
	if !is("10.21.0.3:80")() {
		t.Error("a file that somebody is going to write took its objects away")
	}

	if err := os.Remove(filepath.Join(dir, "slice.yaml")); err != nil {
		t.Fatal(err)
	}
	wait(t, f.Changed(), "a file removed", is(""))

	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.21.0.1"))
	wait(t, f.Changed(), "a file added", is("10.21.0.1:80"))
	after, _ := f.Snapshot()
	replace(t, filepath.Join(dir, "unrelated.yaml"), "kind: Secret\napiVersion: v1\n")
	wait(t, f.Changed(), "an unrelated file", func() bool { return true })
	again, _ := f.Snapshot()
	if after.Services[0] != again.Services[0] || before.Services[0] == after.Services[0] {
		t.Error("a Service keeps its pointer exactly as long as nothing of it changes")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run after its end: %v", err)
	}
}

// A directory may be replaced as a whole, and be away for a while.
func TestFilesFollowsADirectoryThatIsMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	fill := func(addr string) {
		t.Helper()
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, "service.yaml"), service)
		replace(t, filepath.Join(dir, "slice.yaml"), slice(addr))
	}
	is := func(f *Files, want string) func() bool {
		return func() bool { snap, _ := f.Snapshot(); return served(snap) == want }
	}
	fill("10.21.0.1")
	f := NewFiles([]string{dir}, "here", nil)
	go func() { _ = f.Run(t.Context()) }()
	wait(t, f.Changed(), "the first state", is(f, "10.21.0.1:80"))

	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	wait(t, f.Changed(), "it is away", func() bool { _, ps := f.Snapshot(); return len(ps) == 1 && is(f, "10.21.0.1:80")() })
	fill("10.21.0.2")
	wait(t, f.Changed(), "it is back", is(f, "10.21.0.2:80"))
	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.21.0.3"))
	wait(t, f.Changed(), "a file in it changed", is(f, "10.21.0.3:80"))
}

// JSON has no line ends, and its length may be that of a reader's buffer.
// Where the system tells of no changes, the files are read at every tick.
func TestFilesLooksWhereNothingTells(t *testing.T) {
	dir := t.TempDir()
	replace(t, filepath.Join(dir, "service.yaml"), service)
	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.0.0.1"))
	f := NewFiles([]string{dir}, "node", nil)
	if err := f.load(); err != nil {
		t.Fatal(err)
	}
	f.signal.open()
	tick := make(chan time.Time)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- f.follow(ctx, &fsnotify.Watcher{}, tick) }()
	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.0.0.2"))
	tick <- time.Now()
	wait(t, f.Changed(), "the new endpoint", func() bool {
		snap, _ := f.Snapshot()
		return served(snap) == "10.0.0.2:80"
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOneLongLine(t *testing.T) {
	head := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"clusterIP":"10.96.0.1","externalName":"`
	for _, size := range []int{4095, 4096, 4097, 8192} {
		text := head + strings.Repeat("x", size-len(head)-3) + `"}}`
		if o := decode("f", []byte(text)); len(o.services) != 1 || len(o.problems) != 0 {
			t.Errorf("%d bytes: %d Services, %v", len(text), len(o.services), o.problems)
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte(service + "---\n" + slice("10.21.0.1")))
	f.Add([]byte("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"spec\":{\"ports\":[{\"port\":\"x\"}]}},null,3]}"))
	f.Add([]byte("\xef\xbb\xbf---\r\n# nothing\r\n---\r\nkind: List\r\napiVersion: v1\r\nitems: 5\r\n"))
	f.Add([]byte(strings.Replace(service, "web", "\"a\\n-X\"", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		o := decode("f", text)
		x := newIndex("here")
		x.replace(o.services, o.slices, nil, o.cidrs)
		snap, problems := x.snapshot()
		for _, p := range append(problems, o.problems...) {
			if strings.ContainsAny(p.Error(), "\n\r") {
				t.Fatalf("a problem of more than one line: %q", p.Error())
			}
		}
		for _, family := range rules.Families() {
			have := &rules.Ruleset{Family: family}
			text := rules.RenderPlan(rules.NewPlan(have, rules.Build(snap, rules.Config{Family: family, MasqueradeMark: 1}), 0))
			tables, err := rules.ParseSave(text, family)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if odd := unparsed(tables); odd != "" {
				t.Fatalf("a rule that is not ours: %s", odd)
			}
		}
	})
}

// unparsed returns a rule that holds something the parser does not know.
func unparsed(tables []rules.Table) string {
	for _, table := range tables {
		for _, c := range table.Chains {
			i := slices.IndexFunc(c.Rules, func(r rules.Rule) bool { return r.Rare().Unparsed != "" })
			if i >= 0 {
				return c.Rules[i].Rare().Unparsed
			}
		}
	}
	return ""
}
