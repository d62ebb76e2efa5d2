package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"svcproxy/hack/internal/proxies"
)

const help = `bench measures svcproxy beside kube-proxy, in namespaces of its own.

    bench -bin FOLDER -svcproxy FILE [-quick] [-services 1000,10000] [-proxies svcproxy-nft,kube-proxy-nftables]

It needs root, iproute2, iptables with both backends, nftables, 2 cores that nothing
else uses, 1 GB of disk for the programs, and memory: 2 GB for 1,000 Services, 4 GB
for 10,000, 8 GB for 30,000. -quick takes about 4 minutes, the whole run about an
hour: a change must wait until no proxy holds back for its least period, and
kube-proxy with iptables-nft takes minutes to load many Services. Figures of a
machine that does other things meanwhile are not worth much.

It runs everything in namespaces, which end with it, also on Ctrl-C and on failure.

`

// options is the command line.
type options struct {
	args      []string // as given
	shown     string   // those of them that matter to the figures
	bin       string
	svcproxy  string
	services  []int
	endpoints []int
	proxies   []string
	rounds    int
	changes   int
	connects  int
	minSync   time.Duration
	limit     time.Duration
	docs      string
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{args: args}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, help)
		fs.PrintDefaults()
	}
	fs.StringVar(&o.bin, "bin", "", "`folder` with etcd, kube-apiserver and kube-proxy, as hack/kubernetes/build.sh makes it")
	fs.StringVar(&o.svcproxy, "svcproxy", "bin/svcproxy", "`file` to measure")
	quick := fs.Bool("quick", false, "1,000 Services and 1,000 endpoints alone, with a shorter least period")
	services := fs.String("services", "100,1000,5000,10000,30000", "`numbers` of Services with 2 endpoints each")
	endpoints := fs.String("endpoints", "10,100,1000,5000", "`numbers` of endpoints of one Service; empty: leave that out")
	proxies := fs.String("proxies", strings.Join(proxies.Names(), ","), "`names` of what to measure")
	fs.IntVar(&o.rounds, "rounds", 3, "how often each proxy has its turn")
	fs.IntVar(&o.changes, "changes", 5, "changes of an endpoint in each turn; odd, so that each turn ends as it began")
	fs.IntVar(&o.connects, "connects", 800, "TCP connections to each destination in each of the 4 passes of a round")
	fs.DurationVar(&o.minSync, "min-sync-period", time.Second, "least time between two syncs, the same for every proxy")
	fs.DurationVar(&o.limit, "limit", 2*time.Minute, "longest first sync; a proxy that takes longer is not measured further at that size")
	fs.StringVar(&o.docs, "docs", "", "`folder` to write performance.md and performance.svg to")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		*services, *endpoints, o.minSync = "1000", "1000", 200*time.Millisecond
	}
	fs.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"bin", "svcproxy", "docs"}, f.Name) {
			o.shown += fmt.Sprintf(" -%s=%s", f.Name, f.Value)
		}
	})
	var err1, err2 error
	o.services, err1 = numbers(*services)
	o.endpoints, err2 = numbers(*endpoints)
	o.proxies = strings.Split(*proxies, ",")
	return o, errors.Join(err1, err2, o.check(fs.NArg()))
}

func (o *options) check(args int) error {
	for _, p := range o.proxies {
		if !slices.Contains(proxies.Names(), p) {
			return fmt.Errorf("-proxies: %q: must be of %s", p, strings.Join(proxies.Names(), ", "))
		}
	}
	switch {
	case args > 0:
		return errors.New("there are flags alone")
	case o.bin == "":
		return errors.New("-bin is missing: the folder that hack/kubernetes/build.sh prints")
	case o.rounds < 1 || o.changes < 1 || o.connects < 1:
		return errors.New("-rounds, -changes and -connects: must be 1 at least")
	case o.changes%2 == 0:
		return errors.New("-changes: must be odd")
	}
	return nil
}

// numbers reads a list and sorts it: objects are only ever added.
func numbers(list string) ([]int, error) {
	var out []int
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 2 {
			return nil, fmt.Errorf("%q: must be a number greater than 1", word)
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
