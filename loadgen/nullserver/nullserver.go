// Package nullserver answers at once and does nothing else: what remains when
// it is measured is the generator and the kernel's network path. It serves the
// tests, the micro-benchmarks and the generator's calibration.
package nullserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// Config says what to serve.
type Config struct {
	Network  string // tcp, udp, unix
	Address  string // host:port (port 0: any), or a socket path
	Protocol string // frame, http1, resp
	CPU      int    // pinned to it; below 0: not pinned
}

// Server is a running null server.
type Server struct {
	Network, Address string // as bound
	waker            *uring.Waker
	done             chan error
	cpuNs            atomic.Int64
}

// Start binds and serves on a thread of its own until Close.
func Start(cfg Config) (*Server, error) {
	answer, err := responderOf(cfg.Protocol)
	if err != nil {
		return nil, err
	}
	if cfg.Network == "udp" && cfg.Protocol != "frame" {
		return nil, fmt.Errorf("null server: %s over udp", cfg.Protocol)
	}
	file, address, err := bind(cfg)
	if err != nil {
		return nil, err
	}
	waker, err := uring.NewWaker()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s := &Server{Network: cfg.Network, Address: address, waker: waker, done: make(chan error, 1)}
	go func() { s.done <- s.serve(cfg, file, answer) }()
	return s, nil
}

// CPUNs is the server thread's CPU time; it is known after Close.
func (s *Server) CPUNs() int64 { return s.cpuNs.Load() }

// Close stops the server, waits for it and returns what went wrong while it
// served. It must be called once.
func (s *Server) Close() error {
	err := s.waker.Wake()
	return errors.Join(err, <-s.done, s.waker.Close())
}

// bind opens the listening socket as a blocking file: io_uring fails
// operations on a nonblocking one instead of waiting.
func bind(cfg Config) (*os.File, string, error) {
	var config net.ListenConfig
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var source interface{ File() (*os.File, error) }
	var address string
	var closer func() error
	if cfg.Network == "udp" {
		conn, err := config.ListenPacket(ctx, "udp", cfg.Address)
		if err != nil {
			return nil, "", fmt.Errorf("null server: %w", err)
		}
		source, address, closer = conn.(*net.UDPConn), conn.LocalAddr().String(), conn.Close
	} else {
		listener, err := config.Listen(ctx, cfg.Network, cfg.Address)
		if err != nil {
			return nil, "", fmt.Errorf("null server: %w", err)
		}
		address, closer = listener.Addr().String(), listener.Close
		switch l := listener.(type) {
		case *net.TCPListener:
			source = l
		case *net.UnixListener:
			l.SetUnlinkOnClose(false)
			source = l
		}
	}
	file, err := source.File()
	err = errors.Join(err, closer())
	if err != nil {
		return nil, "", fmt.Errorf("null server: %w", err)
	}
	return file, address, unix.SetNonblock(int(file.Fd()), false)
}

func (s *Server) serve(cfg Config, file *os.File, answer responder) error {
	runtime.LockOSThread() // the thread ends with the goroutine, and its affinity
	defer file.Close()
	if cfg.Network == "unix" {
		defer os.Remove(s.Address)
	}
	if cfg.CPU >= 0 {
		var set unix.CPUSet
		set.Set(cfg.CPU)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("null server: pin to CPU %d: %w", cfg.CPU, err)
		}
	}
	var err error
	if cfg.Network == "udp" {
		err = serveDatagrams(int(file.Fd()), s.waker)
	} else {
		err = serveStreams(int(file.Fd()), s.waker, answer)
	}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) == nil {
		s.cpuNs.Store(ts.Nano())
	}
	return err
}
