package proxy

import (
	"context"
	"errors"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// features knows what the kernel lacks in one family. It is asked only when it has
// refused something: what it takes it has, a start of a node that is right already
// writes nothing, and a probe of a large legacy table costs as much as a change.
type features struct {
	probe func(context.Context) (rules.Features, error) // nil: the kernel has everything
	patience
	lacking bool
}

// next is when to ask again, as a module may have been loaded; zero: nothing is
// missing.
func (x *features) next() time.Time {
	if !x.lacking {
		return time.Time{}
	}
	return x.due()
}

// fitFeatures has the rules do without what the kernel lacks, and says what that means.
func (f *familySync) fitFeatures(ctx context.Context) error {
	if f.features.probe == nil {
		return nil
	}
	missing, err := f.features.probe(ctx)
	if err != nil {
		return err
	}
	if f.features.lacking = missing != 0; f.features.lacking {
		f.features.failed()
	}
	f.sayFeatures(ctx, f.config.Missing, missing)
	if missing.Has(rules.FeatureDNAT) {
		return errors.New("the kernel has no DNAT (xt_nat): no Service can be served")
	}
	if missing != f.config.Missing {
		f.config.Missing = missing
		f.builder = rules.NewBuilder(f.config)
		f.readiness.renew()
	}
	return nil
}

// refitFeatures asks again when it is time.
func (f *familySync) refitFeatures(ctx context.Context) error {
	if !f.features.lacking || time.Now().Before(f.features.due()) {
		return nil
	}
	return f.fitFeatures(ctx)
}

func (f *familySync) sayFeatures(ctx context.Context, before, now rules.Features) {
	log := klog.FromContext(ctx)
	for _, i := range (now &^ before).Infos() {
		log.Info("The kernel lacks something", "family", f.family, "lacks", i.Name, "therefore", i.Without)
	}
	for _, i := range (before &^ now).Infos() {
		log.Info("The kernel has something that it lacked", "family", f.family, "has", i.Name)
	}
}

// unserved is what the lack of features leaves out of Services.
func (f *familySync) unserved(snap *rules.Snapshot) []watch.Problem {
	var out []watch.Problem
	for _, id := range rules.UnservedPorts(snap, f.config) {
		out = append(out, watch.Problem{Object: id, Field: "spec.ports.protocol", Value: "SCTP", Reason: "this node's kernel has no SCTP match in " + f.family.String()})
	}
	return out
}
