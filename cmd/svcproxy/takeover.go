package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/proxy"
	"svcproxy/pkg/rules"
)

// predecessorPatience is how long another service proxy may take to end: a pod's
// default grace period, 30 seconds, and what a runtime needs besides. A container that
// ends sooner is started again only after 10 seconds, then 20, and so on.
const predecessorPatience = 35 * time.Second

// await makes sure, before anything is written, that no other service proxy is at
// work on this node; listen is where this one is going to.
func (o *options) await(ctx context.Context, listen ...proxy.Listener) error {
	p := proxy.Predecessor{Listen: listen, Known: proxy.KnownAddresses(), Patience: predecessorPatience}
	if err := p.Await(ctx); err != nil {
		return err
	}
	if kernel.HasIPVSMode() {
		klog.FromContext(ctx).Error(errors.New("interface kube-ipvs0 is there"),
			"kube-proxy's ipvs mode has left its virtual servers, which go on catching packets; 'kube-proxy --cleanup' removes them, and svcproxy's rules too: run it while svcproxy is stopped (docs/migrate.md)")
	}
	return nil
}

// warnOfOthers says that what is removed now will be missed, or come back.
func (o *options) warnOfOthers(ctx context.Context) {
	p := proxy.Predecessor{Known: proxy.KnownAddresses()}
	if err := p.Await(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Removing rules that are in use")
	}
}

// removeNFTablesMode ends what kube-proxy's nftables mode has left of a family, once
// the rules that take its place are there.
func removeNFTablesMode(ctx context.Context, f rules.Family) error {
	removed, err := kernel.RemoveNFTablesMode(f)
	if err != nil {
		return fmt.Errorf("kube-proxy's nftables mode may go on catching packets: %w", err)
	}
	if removed {
		klog.FromContext(ctx).Info("Removed the table of kube-proxy's nftables mode", "family", f)
	}
	return nil
}
