package watch

import (
	"context"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
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
