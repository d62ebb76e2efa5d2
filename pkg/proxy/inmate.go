package proxy

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// standIn is what is served in place of a Service that the kernel refuses. Each
// one asks less of the kernel than the one before, and the first that it takes is
// in force. Old rules go on serving where they can: that is what the user had
// until the change, and endpoints that are gone are left out. Where they cannot,
// clients are told at once that nobody serves them, rather than left to wait.
type standIn int

const (
	whole    standIn = iota // none: the Service as it is
	asBefore                // see rules.AsBefore
	refusing                // see rules.Refusing
	absent                  // no rules; its cluster IP is refused with the rest of the service network
)

func (s standIn) String() string {
	switch s {
	case whole:
		return "all"
	case asBefore:
		return "as before its last change"
	case refusing:
		return "connections are refused"
	}
	return "nothing"
}

// patience says when to try again what the kernel refuses: after a wait that
// doubles. What has changed is tried sooner, but not so soon that whatever changes
// all the time has a restore refused each time.
type patience struct {
	tried   time.Time
	wait    time.Duration
	changed bool
}

const (
	shortestWait = time.Second
	longestWait  = 5 * time.Minute
	changedWait  = 10 * time.Second
)

// failed notes that one more try was in vain.
func (p *patience) failed() {
	p.tried, p.changed = time.Now(), false
	p.wait = min(max(2*p.wait, shortestWait), longestWait)
}

// due is when to try again.
func (p *patience) due() time.Time {
	if p.changed {
		return p.tried.Add(min(p.wait, changedWait))
	}
	return p.tried.Add(p.wait)
}

// serviceName is what a Service is known by while its value changes.
type serviceName struct{ namespace, name string }

func nameOf(s *rules.Service) serviceName { return serviceName{s.Namespace, s.Name} }

// inmate is a Service in quarantine.
type inmate struct {
	before *rules.Service // as the kernel took it last; nil: never, as far as is known
	now    *rules.Service // as it should be served
	kind   standIn
	value  *rules.Service // the stand-in; nil: absent
	cause  *kernel.RestoreError
	since  time.Time
	patience
}

// standIn returns what would be served; nil: nothing, or there is no such thing.
func (m *inmate) standIn(kind standIn) *rules.Service {
	switch {
	case kind == whole:
		return m.now
	case kind == asBefore && m.before != nil && m.before != m.now:
		return rules.AsBefore(m.before, m.now)
	case kind == refusing:
		return rules.WithoutEndpoints(m.now)
	}
	return nil
}

// follow takes a new value of the Service.
func (m *inmate) follow(svc *rules.Service) {
	m.now, m.changed = svc, true
	if m.value = m.standIn(m.kind); m.value == nil && m.kind == asBefore {
		m.kind, m.value = refusing, m.standIn(refusing)
	}
}

// refusedAgain notes that one more try was in vain.
func (m *inmate) refusedAgain(ctx context.Context, cause *kernel.RestoreError) {
	m.cause = cause
	m.failed()
	klog.FromContext(ctx).V(2).Info("A Service in quarantine is refused again", "family", cause.Family,
		"service", m.now.Namespace+"/"+m.now.Name, "reason", cause.Error(), "tryAgain", m.wait)
}
