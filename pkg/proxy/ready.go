package proxy

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
)

// readiness is what must not be before the rules of a family are. It is tried until it
// succeeds.
type readiness struct {
	call func(rules.Config) error // Family.Ready
	patience
	done bool
	said string // the last error that was logged
}

// next is when to try again; zero: there is nothing to try, or it was not tried yet.
func (r *readiness) next() time.Time {
	if r.call == nil || r.done {
		return time.Time{}
	}
	return r.due()
}

// renew has it tried after the next sync, as what is in force is another configuration.
func (r *readiness) renew() { r.done, r.patience = false, patience{} }

// getReady follows a sync that succeeded.
func (f *familySync) getReady(ctx context.Context) {
	r := &f.readiness
	if r.call == nil || r.done || time.Now().Before(r.due()) {
		return
	}
	if err := r.call(f.config); err != nil {
		r.failed()
		if r.said != err.Error() {
			r.said = err.Error()
			klog.FromContext(ctx).Error(err, "Not all of a family can be served", "family", f.family)
		}
		return
	}
	r.done, r.said = true, ""
}
