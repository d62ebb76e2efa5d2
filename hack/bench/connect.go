package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pods is the server of all pods. It is the bench itself that takes connections
// from the queue, after those that it made: so no other process wakes up while a
// connect is timed, and where a connection went is known without a word sent.
type pods struct{ fd int }

func listen() (*pods, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket of the pods: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: podPort}); err != nil {
		return nil, fmt.Errorf("bind the pods: %w", err)
	}
	return &pods{fd}, unix.Listen(fd, 4096)
}

// drain takes all connections that wait, and returns the pod of the last.
func (p *pods) drain() (netip.AddrPort, error) {
	var last netip.AddrPort
	for {
		fd, _, err := unix.Accept4(p.fd, unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return last, nil
		case errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return last, fmt.Errorf("accept: %w", err)
		}
		if local, err := unix.Getsockname(fd); err == nil {
			in := local.(*unix.SockaddrInet4)
			last = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
		}
		_ = unix.Close(fd)
	}
}

// connect makes a TCP connection from the network namespace of the thread and
// says how long that took. It then calls with, and resets the connection, which
// leaves nothing behind that waits.
func connect(to netip.AddrPort, with func()) (time.Duration, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return 0, err
	}
	patience := unix.Timeval{Usec: 200_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return 0, err
	}
	address := unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	start := time.Now()
	err = unix.Connect(fd, &address)
	took := time.Since(start)
	if err == nil && with != nil {
		with()
	}
	return took, err
}

// reach returns the pod that a connection gets to; none while there is no way.
func (p *pods) reach(to netip.AddrPort) (netip.AddrPort, error) {
	var at netip.AddrPort
	var failed error
	_, err := connect(to, func() { at, failed = p.drain() })
	if failed != nil || err == nil {
		return at, failed
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return at, err
	}
	return netip.AddrPort{}, nil
}

// await connects until it gets to a pod that is wanted, and returns when it did.
func (p *pods) await(ctx context.Context, to netip.AddrPort, pause func() time.Duration, wanted func(netip.AddrPort) bool) (time.Time, error) {
	for ctx.Err() == nil {
		at, err := p.reach(to)
		if err != nil {
			return time.Time{}, fmt.Errorf("connect to %s: %w", to, err)
		}
		if at.IsValid() && wanted(at) {
			return time.Now(), nil
		}
		if at == pod(podC) {
			continue // it may have been the other endpoint's turn
		}
		ts := unix.NsecToTimespec(pause().Nanoseconds())
		_ = unix.Nanosleep(&ts, nil) // a timer of the runtime would come later
	}
	return time.Time{}, ctx.Err()
}

// median connects n times and returns the median time.
func (p *pods) median(to netip.AddrPort, n int) (time.Duration, error) {
	took := make([]time.Duration, 0, n)
	for len(took) < n {
		d, err := connect(to, nil)
		if errors.Is(err, unix.EINTR) {
			continue // a signal of the runtime: not a time of the kernel's
		}
		if err != nil {
			return 0, fmt.Errorf("connect to %s: %w", to, err)
		}
		if took = append(took, d); len(took)%256 == 0 {
			if _, err := p.drain(); err != nil {
				return 0, err
			}
		}
	}
	slices.Sort(took)
	_, err := p.drain()
	return took[n/2], err
}

// firstAndLast returns the Services whose rules come first and last in what a
// save prints: a packet to the last meets the most rules where they are a list.
func firstAndLast(save []byte, ips []netip.Addr) (first, last netip.Addr) {
	order := servicesIn(save)
	if len(order) == 0 { // no list: by address
		order = slices.SortedFunc(slices.Values(ips), netip.Addr.Compare)
	}
	return order[0], order[len(order)-1]
}

func service(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, servicePort) }

// healthy reports whether /healthz in the network namespace of the thread says so.
func healthy() bool {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:10256", time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.0\r\n\r\n")); err != nil {
		return false
	}
	answer := make([]byte, 15)
	n, _ := conn.Read(answer)
	return n == 15 && string(answer[9:12]) == "200"
}
