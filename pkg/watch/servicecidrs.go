package watch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
)

// optional makes an informer one that can be done without: API servers before
// 1.33 have no ServiceCIDRs, and older RBAC rules do not allow them. The result
// says whether all that there is is known. It must be called before the informer
// starts.
func optional(informer cache.SharedIndexInformer, synced cache.InformerSynced) (cache.InformerSynced, error) {
	var missing atomic.Bool
	err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
			cache.DefaultWatchErrorHandler(ctx, r, err)
			return
		}
		if !missing.Swap(true) {
			klog.FromContext(ctx).Info("ServiceCIDRs cannot be read: packets to cluster IPs that no Service has are not refused", "reason", err.Error())
		}
	})
	return func() bool { return missing.Load() || synced() }, err
}

// convertServiceCIDRs returns the ranges of all objects, sorted, each once. What
// nobody serves in them is refused, so one that cannot hold cluster IPs alone is
// left out: it would cut off the node or its pods.
func convertServiceCIDRs(all []*networkingv1.ServiceCIDR, node *rules.Node) ([]netip.Prefix, []Problem) {
	var out []netip.Prefix
	var ps []Problem
	for _, api := range all {
		p := problems{object: api.Name}
		for i, s := range api.Spec.CIDRs {
			r, reason := parseRange(s)
			if reason == "" {
				reason = notServiceNetwork(r, node)
			}
			if reason != "" {
				p.add(fmt.Sprintf("spec.cidrs[%d]", i), s, reason)
			} else {
				out = append(out, r)
			}
		}
		ps = append(ps, p.list...)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), ps
}

// notServiceNetwork says why a range holds more than cluster IPs; empty: it may not.
func notServiceNetwork(r netip.Prefix, node *rules.Node) string {
	if r.Bits() == 0 {
		return "holds every address"
	}
	for _, a := range node.Addresses {
		if r.Contains(a) {
			return "holds the node's address " + a.String()
		}
	}
	for _, pods := range node.PodCIDRs {
		if r.Overlaps(pods) {
			return "overlaps with the node's pods, " + pods.String()
		}
	}
	return ""
}
