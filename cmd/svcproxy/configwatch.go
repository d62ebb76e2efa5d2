package main

import (
	"bytes"
	"context"
	"os"
	"time"

	"k8s.io/klog/v2"
)

// configPeriod is how often the configuration file is read. Its volume, an editor
// and a bind mount each replace it in another way, and the kubelet takes up to a
// minute anyway: to look is simpler than to be told.
const configPeriod = 2 * time.Second

// untilReconfigured returns a context that also ends when the configuration file
// holds another configuration, so that what starts svcproxy starts it anew with
// that, as with kube-proxy. One that is not in order changes nothing.
func (o *options) untilReconfigured(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if o.configFile != "" {
		go func() {
			defer cancel()
			o.awaitConfiguration(ctx, configPeriod)
		}()
	}
	return ctx, cancel
}

// awaitConfiguration returns when the file holds another configuration, or ctx ends.
func (o *options) awaitConfiguration(ctx context.Context, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	file := configReader{o: o, seen: o.configText}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if file.changed(ctx) {
				return
			}
		}
	}
}

// configReader reads the file again and again, and says each trouble once.
type configReader struct {
	o    *options
	seen []byte // what was judged last
	lost bool   // the file cannot be read, and that has been said
}

// changed reports whether the file holds another configuration that is in order.
func (r *configReader) changed(ctx context.Context) bool {
	log := klog.FromContext(ctx).WithValues("file", r.o.configFile)
	text, err := os.ReadFile(r.o.configFile)
	if err != nil {
		if !r.lost {
			log.Error(err, "The configuration file cannot be read; its last content stays in force")
		}
		r.lost = true
		return false
	}
	r.lost = false
	if bytes.Equal(text, r.seen) {
		return false
	}
	r.seen = text
	s, err := r.o.readConfiguration(text)
	if err != nil {
		log.Error(err, "The configuration file has changed and is not in order; its last content stays in force")
		return false
	}
	fields := differing(r.o.settings.configuration, s.configuration)
	if len(fields) == 0 {
		log.V(1).Info("The configuration file has changed, and the configuration is the same")
		return false
	}
	log.Info("The configuration has changed: ending, to be started anew with it; the rules stay in place", "fields", fields)
	return true
}
