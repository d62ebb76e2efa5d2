package watch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"svcproxy/pkg/rules"
)

// Files follows objects in files.
type Files struct {
	paths    []string
	nodeName string
	stdin    io.Reader
	index    *index
	signal   signal

	mu       sync.Mutex
	files    map[string]*objects // by name, what counts of each file now
	problems []Problem           // of files and documents, not of objects
}

// NewFiles returns a source that reads nothing before Run. A path is a file, a
// directory, whose *.yaml, *.yml and *.json files count but not its hidden files
// and folders, or "-" for stdin. nodeName chooses among Node objects; without
// one of that name zone and addresses are unknown.
func NewFiles(paths []string, nodeName string, stdin io.Reader) *Files {
	x := newIndex(nodeName)
	x.reportOrphans = true
	return &Files{paths: paths, nodeName: nodeName, stdin: stdin, index: x, signal: newSignal(), files: map[string]*objects{}}
}

// Changed gets a value after changes, the first one when all files are read.
func (f *Files) Changed() <-chan struct{} { return f.signal.c }

// Changes counts the changes of objects.
func (f *Files) Changes() *Changes { return f.index.changes }

// Snapshot returns the state of now and what is wrong with files and objects.
func (f *Files) Snapshot() (*rules.Snapshot, []Problem) {
	snap, problems := f.index.snapshot()
	f.mu.Lock()
	defer f.mu.Unlock()
	return snap, sortProblems(append(problems, f.problems...))
}

// Run reads the files and follows their changes until ctx ends. It fails if one
// of the paths cannot be read at the start; one that vanishes later is a problem,
// and what it held stays in force.
func (f *Files) Run(ctx context.Context) error {
	var look <-chan time.Time
	w, err := f.subscribe()
	if err == nil {
		defer func() { _ = w.Close() }()
	} else {
		w = &fsnotify.Watcher{} // tells of nothing
		ticker := time.NewTicker(pollPeriod)
		defer ticker.Stop()
		look = ticker.C
	}
	if err := f.load(); err != nil {
		return err
	}
	f.signal.open()
	return f.follow(ctx, w, look)
}

// pollPeriod is how often files are read where the system does not tell of their
// changes: a user may have few inotify instances, and other programs all of them.
const pollPeriod = time.Second

// subscribe returns a watcher of the paths.
func (f *Files) subscribe() (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := f.watch(w); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// watch watches directories, also those of single files: editors and ConfigMap
// volumes replace files rather than write into them. A directory that was made anew
// has to be watched anew.
func (f *Files) watch(w *fsnotify.Watcher) error {
	for _, path := range f.paths {
		if path == "-" {
			continue
		}
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			path = filepath.Dir(path)
		}
		if err := w.Add(path); err != nil {
			return err
		}
	}
	return nil
}

// settle is how long a directory must be quiet before it is read: what is
// written together should be read together.
const settle = 20 * time.Millisecond

// follow reads the files again after events or, if there is no watcher, at every
// tick of look. What is away is looked for until it is back: nothing tells of that.
func (f *Files) follow(ctx context.Context, w *fsnotify.Watcher, look <-chan time.Time) error {
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("follow files: the watch ended")
			}
			quiet = time.After(settle)
		case <-w.Errors:
			quiet = time.After(settle) // events may be lost: look
		case <-look:
			quiet = time.After(0)
		case <-quiet:
			quiet = nil
			if look == nil && f.watch(w) != nil {
				quiet = time.After(pollPeriod)
			}
			if err := f.load(); err != nil {
				f.keepGoing(err)
			}
			f.signal.raise()
		}
	}
}

// keepGoing notes that the files could not be read; what they held stays.
func (f *Files) keepGoing(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problems = []Problem{{Object: "files", Field: "path", Value: "unreadable", Reason: oneLine(err) + "; the last state stays in force"}}
}

// load reads all paths.
func (f *Files) load() error {
	read := map[string]*objects{}
	var order []string
	for _, path := range f.paths {
		names, err := expand(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			if read[name] != nil {
				continue
			}
			o, err := f.read(name)
			if errors.Is(err, fs.ErrNotExist) && name != path {
				continue // removed while we looked
			}
			if err != nil {
				return err
			}
			read[name] = o
			order = append(order, name)
		}
	}
	f.mu.Lock()
	f.files = read
	f.mu.Unlock()
	f.merge(order, read)
	return nil
}

// read returns what counts of a file. As long as a document in it cannot be
// read, or there is none at all, objects that it held before and does not hold now
// stay in force: a shell empties the file that a command is going to write.
func (f *Files) read(name string) (*objects, error) {
	f.mu.Lock()
	old := f.files[name]
	f.mu.Unlock()
	if name == "-" && old != nil {
		return old, nil
	}
	text, err := readText(name, f.stdin)
	if err != nil {
		return nil, err
	}
	if name == "-" {
		return decode("stdin", text), nil
	}
	now := decode(filepath.Base(name), text)
	if len(bytes.TrimSpace(text)) == 0 && old.any() {
		now.problems = append(now.problems, Problem{Object: filepath.Base(name), Field: "document",
			Reason: "the file is empty; what it held stays in force until it is written or removed"})
	}
	if len(now.problems) > 0 && old != nil {
		now.services = append(now.services, old.services...)
		now.slices = append(now.slices, old.slices...)
		now.nodes = append(now.nodes, old.nodes...)
		now.cidrs = append(now.cidrs, old.cidrs...)
		now.dropRepeats()
	}
	return now, nil
}

// any reports whether there are objects; o may be nil.
func (o *objects) any() bool {
	return o != nil && len(o.services)+len(o.slices)+len(o.nodes)+len(o.cidrs) > 0
}

// dropRepeats keeps the first object of each name.
func (o *objects) dropRepeats() {
	o.services = firstOfEach(o.services, serviceKey, nil)
	o.slices = firstOfEach(o.slices, sliceKey, nil)
	o.nodes = firstOfEach(o.nodes, func(n *corev1.Node) key { return key{name: n.Name} }, nil)
	o.cidrs = firstOfEach(o.cidrs, cidrKey, nil)
}

func cidrKey(c *networkingv1.ServiceCIDR) key { return key{name: c.Name} }

func serviceKey(s *bareService) key { return s.key }

func sliceKey(s *endpointSlice) key { return s.key }

func firstOfEach[T any](in []T, keyOf func(T) key, repeated func(T)) []T {
	seen := map[key]bool{}
	var out []T
	for _, o := range in {
		k := keyOf(o)
		if !seen[k] {
			seen[k] = true
			out = append(out, o)
		} else if repeated != nil {
			repeated(o)
		}
	}
	return out
}

// expand lists the files behind a path.
func expand(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		full := filepath.Join(path, name)
		if info, err := os.Stat(full); err == nil && info.IsDir() {
			continue
		}
		names = append(names, full)
	}
	return names, nil
}

// merge hands the objects of all files to the index. Of two with the same name
// the first counts, in the order of the paths.
func (f *Files) merge(order []string, files map[string]*objects) {
	var all objects
	for _, name := range order {
		o := files[name]
		all.services = append(all.services, o.services...)
		all.slices = append(all.slices, o.slices...)
		all.nodes = append(all.nodes, o.nodes...)
		all.cidrs = append(all.cidrs, o.cidrs...)
		all.problems = append(all.problems, o.problems...)
	}
	repeated := func(kind string, k key) {
		all.problems = append(all.problems, Problem{Object: k.namespace + "/" + k.name, Field: "metadata.name", Value: k.name,
			Reason: "there is another " + kind + " of this name; the first counts"})
	}
	services := firstOfEach(all.services, serviceKey, func(s *bareService) { repeated("Service", s.key) })
	eps := firstOfEach(all.slices, sliceKey, func(s *endpointSlice) { repeated("EndpointSlice", s.key) })
	for _, s := range eps {
		if _, ok := serviceOf(s); !ok {
			all.problems = append(all.problems, Problem{Object: s.key.String(),
				Field: "metadata.labels[" + discoveryv1.LabelServiceName + "]", Reason: "is missing: the slice belongs to no Service"})
		}
	}
	var node *corev1.Node
	for _, n := range all.nodes {
		if n.Name == f.nodeName && node == nil {
			node = n
		}
	}
	f.index.replace(services, eps, node, firstOfEach(all.cidrs, cidrKey, nil))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problems = all.problems
}
