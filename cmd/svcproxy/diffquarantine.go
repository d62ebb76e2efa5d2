package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"k8s.io/klog/v2"
)

// quarantineQuery is how long the running proxy may take to answer.
const quarantineQuery = 2 * time.Second

// quarantinedNow asks the proxy that runs on this node, on its metrics address, which
// Services the kernel refuses. Where none runs, or one that does not tell, there are none.
func (o *options) quarantinedNow(ctx context.Context) quarantine {
	out := quarantine{}
	if o.settings.MetricsBindAddress == "" {
		return out
	}
	var list []struct{ Family, Service, InForce string }
	if err := getJSON(ctx, "http://"+o.settings.MetricsBindAddress+"/quarantine", &list); err != nil {
		klog.FromContext(ctx).V(1).Info("The proxy of this node does not tell what is in quarantine", "reason", err.Error())
	}
	for _, s := range list {
		out[s.Family+" "+s.Service] = s.InForce
	}
	return out
}

// getJSON reads what a URL answers into a value.
func getJSON(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, quarantineQuery)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	return json.NewDecoder(answer.Body).Decode(into)
}
