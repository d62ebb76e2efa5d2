package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// settings is a configuration that is in order, and what follows from it.
type settings struct {
	*configuration                     // for the iptables mode
	mode           kubeproxy.ProxyMode // that was asked for
	gates          featuregate.FeatureGate
	podTraffic     podTraffic
	nodePorts      nodePorts
	nodeName       string
	nodeAddress    netip.Addr // the node's primary address; invalid: as its Node says
}

// newSettings checks a configuration without empty fields, and takes it over.
func newSettings(c *configuration) (*settings, field.ErrorList) {
	s := &settings{configuration: c, mode: c.Mode}
	gates, errs := newGates(c.FeatureGates)
	s.gates = gates
	errs = append(errs, checkMode(c.Mode)...)
	errs = append(errs, checkAddresses(c)...)
	errs = append(errs, checkNumbers(c)...)
	errs = append(errs, checkPeriods(c)...)
	adoptMode(c)
	for _, part := range []func() *field.Error{s.readPodTraffic, s.readNodePorts, s.readNode} {
		if err := part(); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, logsapi.Validate(&c.Logging, gates, field.NewPath("logging"))...)
	return s, errs
}

// readNode works out which Node this is. Names of Nodes are in lower case.
func (s *settings) readNode() *field.Error {
	name := s.HostnameOverride
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return field.InternalError(field.NewPath("hostnameOverride"), fmt.Errorf("is empty, and there is no host name: %w", err))
		}
		name = host
	}
	s.nodeName = strings.ToLower(strings.TrimSpace(name))
	if s.nodeName == "" {
		return invalid("hostnameOverride", name, "is blank")
	}
	a, err := netip.ParseAddr(s.BindAddress)
	if err != nil {
		return invalid("bindAddress", s.BindAddress, "must be an IP address")
	}
	if !a.IsUnspecified() {
		s.nodeAddress = a.Unmap()
	}
	return nil
}
