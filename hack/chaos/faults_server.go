package main

import (
	"context"
	"syscall"
	"time"

	"svcproxy/hack/internal/wait"
)

// serverFaults are those of the API server.
func serverFaults() []*fault {
	return []*fault{
		{name: "api-stopped", stuck: true, make: apiStopped,
			how: "the API server is killed, and started a minute later"},
		{name: "events-missed", stuck: true, make: eventsMissed,
			how: "while the proxy is stopped for a few seconds objects change, etcd forgets its history, and the API server is started anew: watches are closed, and to go on with one is answered by 410 Gone"},
	}
}

func apiStopped(ctx context.Context, s *scene) error {
	s.control.API.Stop(syscall.SIGKILL)
	return last(ctx, s.long(time.Minute, 2*time.Second), func() error { return s.control.StartAPIServer(ctx) })
}

func eventsMissed(ctx context.Context, s *scene) error {
	s.node.proxy.Pause()
	defer s.node.proxy.Resume()
	if err := wait.Sleep(ctx, s.long(2*time.Second, time.Second)); err != nil {
		return err
	}
	if err := s.control.Compact(ctx); err != nil {
		return err
	}
	s.control.API.Stop(syscall.SIGKILL)
	return s.control.StartAPIServer(ctx)
}
