package recordserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// server is one running Serve.
type server struct {
	opts  Options
	stats Stats

	// work outlives the caller's context by at most DrainTimeout.
	work       context.Context
	cancelWork context.CancelFunc

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	wg       sync.WaitGroup // connections
}

// Serve listens and serves until ctx ends. It then stops reading, lets requests
// under way finish and their answers leave (at most DrainTimeout), closes the
// store and returns nil. It closes the store on every path.
func Serve(ctx context.Context, opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		if opts.Store != nil {
			err = errors.Join(err, opts.Store.Close())
		}
		return err
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := &server{opts: opts, work: work, cancelWork: cancel, conns: make(map[*conn]struct{})}

	err = s.serve(ctx)
	if closeErr := opts.Store.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("close store: %w", closeErr))
	}
	if opts.Stat != nil {
		s.stats.each(opts.Stat)
	}
	return err
}

func (s *server) serve(ctx context.Context) error {
	listener, err := listen(s.opts.Network, s.opts.Address)
	if err != nil {
		return fmt.Errorf("listen on %s %s: %w", s.opts.Network, s.opts.Address, err)
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()

	if s.opts.Ready != nil {
		if err := s.opts.Ready(listener.Addr().String()); err != nil {
			return fmt.Errorf("announce %s: %w", listener.Addr(), err)
		}
	}
	acceptErr := s.accept(ctx, listener)
	return errors.Join(acceptErr, s.drain())
}

// accept returns nil when ctx ended.
func (s *server) accept(ctx context.Context, listener net.Listener) error {
	for pause := time.Duration(0); ; {
		socket, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				socket.Close()
			}
			return nil
		}
		if err == nil {
			pause = 0
			s.start(socket)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept: %w", err)
		}
		// Out of descriptors or an aborted handshake: both pass.
		s.stats.AcceptErrors.Add(1)
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (s *server) start(socket net.Conn) {
	c := newConn(s, socket)
	s.mu.Lock()
	full := len(s.conns) >= s.opts.ConnectionsMax
	if full || s.draining {
		s.mu.Unlock()
		s.stats.ConnectionsRefused.Add(1)
		socket.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	s.stats.Connections.Add(1)
	go func() {
		defer s.wg.Done()
		c.run()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// drain ends every connection after its requests under way.
func (s *server) drain() error {
	s.mu.Lock()
	s.draining = true
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	timer := time.NewTimer(s.opts.DrainTimeout)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
	}
	// The store gets its context cancelled and clients are cut off; a store that
	// heeds neither is reported instead of waited for.
	s.cancelWork()
	s.mu.Lock()
	for c := range s.conns {
		c.socket.Close()
	}
	s.mu.Unlock()
	timer.Reset(s.opts.DrainTimeout)
	select {
	case <-done:
		return fmt.Errorf("drain: requests did not finish within %v and were cancelled", s.opts.DrainTimeout)
	case <-timer.C:
		return fmt.Errorf("drain: the store did not return within %v of its cancellation", s.opts.DrainTimeout)
	}
}
