package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"svcproxy/hack/internal/proxies"
)

const help = `chaos makes things go wrong around a service proxy, in namespaces of its own.

    chaos -bin FOLDER -proxy svcproxy -backend nft -for 10m -json FILE
    chaos -document docs/reliability.md FILE...      the page, from such files

It needs root, iproute2, iptables with both backends, and 1 GB of memory. The exit
status is 1 if svcproxy did not do as it has to; kube-proxy may do as it likes.

`

// options is the command line.
type options struct {
	bin      string
	svcproxy string
	kind     proxies.Kind
	lasts    time.Duration // until no new fault begins; each is tried once at least
	seed     uint64
	faults   []string      // names; empty: all
	brief    bool          // faults last no longer than they need to do harm
	within   time.Duration // how long svcproxy may take to heal
	json     string

	document string
	results  []string
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{within: healWithin}
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, help)
		fs.PrintDefaults()
	}
	fs.StringVar(&o.bin, "bin", "", "`folder` with etcd, kube-apiserver and kube-proxy, as hack/kubernetes/build.sh makes it")
	fs.StringVar(&o.svcproxy, "svcproxy", "bin/svcproxy", "svcproxy's `file`; also tells what a fresh load is")
	proxy := fs.String("proxy", "svcproxy", "svcproxy or kube-proxy")
	backend := fs.String("backend", "nft", "of iptables: nft or legacy")
	fs.DurationVar(&o.lasts, "for", 10*time.Minute, "how long to go on; each fault is tried once at least")
	fs.Uint64Var(&o.seed, "seed", 0, "of all that is random here; 0: another one each time")
	fs.BoolVar(&o.brief, "brief", false, "faults of seconds instead of up to a minute")
	only := fs.String("faults", "", "`names` of faults; empty: all of "+strings.Join(faultNames(), ", "))
	fs.StringVar(&o.json, "json", "", "`file` for the result")
	fs.StringVar(&o.document, "document", "", "`file` to write, from results that are named as arguments; nothing is run")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.results = fs.Args()
	o.faults = strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	if o.seed == 0 {
		o.seed = rand.Uint64()>>32 + 1
	}
	return o, o.check(*proxy, *backend)
}

func (o *options) check(proxy, backend string) error {
	if o.document != "" {
		if len(o.results) == 0 {
			return errors.New("-document: name the results to write it from, as -json writes them")
		}
		return nil
	}
	for _, name := range o.faults {
		if !slices.Contains(faultNames(), name) {
			return fmt.Errorf("-faults: %q: must be of %s", name, strings.Join(faultNames(), ", "))
		}
	}
	switch {
	case len(o.results) > 0:
		return fmt.Errorf("%q: arguments are for -document alone", o.results[0])
	case o.bin == "":
		return errors.New("-bin is missing: the folder that hack/kubernetes/build.sh prints")
	}
	var err error
	o.kind, err = kindOf(proxy, backend)
	return err
}

// kindOf returns how to run a proxy.
func kindOf(proxy, backend string) (proxies.Kind, error) {
	kinds := map[string]string{
		"svcproxy nft": proxies.SvcproxyNFT, "svcproxy legacy": proxies.SvcproxyLegacy,
		"kube-proxy nft": proxies.KubeProxyNFT, "kube-proxy legacy": proxies.KubeProxyLegacy,
	}
	name, ok := kinds[proxy+" "+backend]
	if !ok {
		return proxies.Kind{}, fmt.Errorf("-proxy %q -backend %q: must be svcproxy or kube-proxy, nft or legacy", proxy, backend)
	}
	return proxies.KindOf(name), nil
}
