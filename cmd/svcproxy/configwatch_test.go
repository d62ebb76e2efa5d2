package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// volume is a ConfigMap's volume as the kubelet keeps it: files are links into
// ..data, which is a link to a folder, and changes by a new link in its place.
type volume struct {
	t    testing.TB
	dir  string
	made int
}

func newVolume(t testing.TB, text string) *volume {
	t.Helper()
	v := &volume{t: t, dir: t.TempDir()}
	v.set(text)
	v.do(os.Symlink(filepath.Join("..data", "config.conf"), v.path()))
	return v
}

func (v *volume) path() string { return filepath.Join(v.dir, "config.conf") }

func (v *volume) do(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *volume) set(text string) {
	v.t.Helper()
	old, _ := os.Readlink(filepath.Join(v.dir, "..data"))
	v.made++
	name := fmt.Sprintf("..2026_01_01_%d", v.made)
	v.do(os.Mkdir(filepath.Join(v.dir, name), 0o755))
	v.do(os.WriteFile(filepath.Join(v.dir, name, "config.conf"), []byte(text), 0o600))
	v.do(os.Symlink(name, filepath.Join(v.dir, "..data_tmp")))
	v.do(os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")))
	if old != "" {
		v.do(os.RemoveAll(filepath.Join(v.dir, old)))
	}
}

// syncBuffer can be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// awaited follows a volume. ended is closed when there is another configuration.
func awaited(t *testing.T, v *volume, args ...string) (log *syncBuffer, ended chan struct{}) {
	t.Helper()
	log = &syncBuffer{}
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(log), textlogger.Verbosity(1)))
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
	o := configured(t, append(args, "--config", v.path())...)
	ended = make(chan struct{})
	go func() {
		o.awaitConfiguration(ctx, time.Millisecond)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return log, ended
}

// says waits until the log holds each of the words, and nothing has ended.
func (b *syncBuffer) says(t *testing.T, ended <-chan struct{}, words ...string) {
	t.Helper()
	for _, w := range words {
		for end := time.Now().Add(10 * time.Second); !strings.Contains(b.String(), w); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the log never says %s:\n%s", w, b)
			}
		}
	}
	select {
	case <-ended:
		t.Fatalf("it has ended:\n%s", b)
	default:
	}
}

// quiet fails the test if what was said is said again.
func (b *syncBuffer) quiet(t *testing.T) {
	t.Helper()
	before := b.String()
	time.Sleep(20 * time.Millisecond) // some more readings
	if after := b.String(); after != before {
		t.Errorf("it repeats itself:\n%s", after)
	}
}

func waitEnd(t *testing.T, log *syncBuffer, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("it goes on:\n%s", log)
	}
}

func TestAnotherConfigurationEndsTheProxy(t *testing.T) {
	v := newVolume(t, configText("clusterCIDR: 10.0.0.0/8\nmode: iptables\n"))
	log, ended := awaited(t, v, "-v=1", "--hostname-override=a")
	v.set(configText("clusterCIDR: 10.1.0.0/16\nmode: ''\niptables: {masqueradeAll: true}\n"))
	waitEnd(t, log, ended)
	if got := log.String(); !strings.Contains(got, `fields=["clusterCIDR","iptables.masqueradeAll"]`) || strings.Count(got, "\n") != 1 {
		t.Errorf("it says:\n%s", got)
	}
}

// What is wrong changes nothing, is said once, and does not hide what comes after.
func TestAConfigurationThatIsNotInOrderChangesNothing(t *testing.T) {
	first := configText("mode: iptables\n")
	v := newVolume(t, first)
	log, ended := awaited(t, v)
	v.set(configText("iptables: {masqueradeBit: 32}\n"))
	log.says(t, ended, "iptables.masqueradeBit: Invalid value: 32", v.path())
	log.quiet(t)
	v.set(configText("ipTables: {masqueradeBit: 3}\n"))
	log.says(t, ended, `unknown field \"ipTables\"`)
	v.set("")
	log.says(t, ended, "kind")
	v.set(first + "# nothing new\n")
	log.says(t, ended, "the configuration is the same")
	if err := os.Remove(v.path()); err != nil {
		t.Fatal(err)
	}
	log.says(t, ended, "no such file")
	log.quiet(t)
	if err := os.WriteFile(v.path(), []byte(configText("iptables: {masqueradeBit: 3}\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	waitEnd(t, log, ended)
}

// The flags that come before the file do so when it is read again.
func TestFlagsCountWhenTheFileIsReadAgain(t *testing.T) {
	v := newVolume(t, configText("hostnameOverride: a\nlogging: {verbosity: 1}\n"))
	log, ended := awaited(t, v, "--hostname-override=b", "-v=2")
	v.set(configText("hostnameOverride: c\nlogging: {verbosity: 3}\n"))
	log.says(t, ended, "the configuration is the same")
}
