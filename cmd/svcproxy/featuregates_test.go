package main

import (
	"strings"
	"testing"

	clientfeatures "k8s.io/client-go/features"
	"k8s.io/component-base/featuregate"

	"svcproxy/pkg/rules"
)

// The list has every gate that something in this program asks for, with the same
// default: a newer client-go asks for more.
func TestListOfFeatureGates(t *testing.T) {
	known := knownGates()
	if len(known) != strings.Count(kubeProxyGates, "\n") || len(known) < 200 {
		t.Errorf("%d gates in %d lines", len(known), strings.Count(kubeProxyGates, "\n"))
	}
	gates, errs := newGates(nil)
	if errs != nil {
		t.Fatal(errs)
	}
	names := clientGateNames()
	if len(names) < 5 {
		t.Errorf("client-go has the gates %v", names)
	}
	for _, name := range append(names, allowServiceExternalIPs, "ContextualLogging") {
		if _, ok := known[name]; !ok {
			t.Errorf("%s is not known", name)
		} else if of := clientfeatures.Feature(name); strings.HasPrefix(string(name), "Client") && gates.Enabled(name) != clientfeatures.FeatureGates().Enabled(of) {
			t.Errorf("%s is not on where it is on in client-go", name)
		}
	}
}

func TestFeatureGatesAct(t *testing.T) {
	for args, on := range map[string]map[featuregate.Feature]bool{
		"": {allowServiceExternalIPs: true, "WatchListClient": true, "LoggingAlphaOptions": false},
		"--feature-gates=AllowServiceExternalIPs=false":                           {allowServiceExternalIPs: false},
		"--feature-gates=AllowServiceExternalIPs=false,WatchListClient=false":     {allowServiceExternalIPs: false, "WatchListClient": false},
		"--feature-gates=AllAlpha=true --feature-gates=AllBeta=false":             {"LoggingAlphaOptions": true, "LoggingBetaOptions": false},
		"--feature-gates=LoggingAlphaOptions=false --feature-gates=AllAlpha=true": {"LoggingAlphaOptions": false, "NodeLifecycleConditions": true},
	} {
		o := configured(t, strings.Fields(args)...)
		for name, want := range on {
			if o.settings.gates.Enabled(name) != want {
				t.Errorf("%s: %s is not %v", args, name, want)
			}
		}
	}
	o := configured(t, "--config", configFile(t, "featureGates: {AllowServiceExternalIPs: false}\n"))
	if !o.config(rules.IPv4).WithoutExternalIPs || configured(t).config(rules.IPv4).WithoutExternalIPs {
		t.Error("the rules have external IPs with the gate closed, or none with it open")
	}
}

// Gates of client-go act there; those that are not set stay as client-go has
// them, which the environment may have changed.
func TestClientGates(t *testing.T) {
	before := clientfeatures.FeatureGates()
	defer clientfeatures.ReplaceFeatureGates(before)
	setClientGates(map[string]bool{"WatchListClient": false, "AllowServiceExternalIPs": false})
	after := clientfeatures.FeatureGates()
	if after.Enabled(clientfeatures.WatchListClient) || !before.Enabled(clientfeatures.WatchListClient) {
		t.Error("the gate did nothing, or was closed before")
	}
	if after.Enabled(clientfeatures.InOrderInformers) != before.Enabled(clientfeatures.InOrderInformers) {
		t.Error("another gate has changed")
	}
}
