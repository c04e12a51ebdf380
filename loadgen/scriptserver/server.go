package scriptserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Config says what to serve and where.
type Config struct {
	Network  string // tcp, udp, unix
	Address  string // loopback host:port (port 0: any), or a socket path
	Protocol string // frame, http1, resp; udp takes frame only
	Script   Script
	CPU      int // pinned to it with the best priority; below 0: not pinned
	LogMax   int // requests to keep a record of; at most 1<<22
}

// logMaxMax bounds the record: 32 bytes each.
const logMaxMax = 1 << 22

// Entry is the record of one request, in ns on CLOCK_MONOTONIC.
type Entry struct {
	ID         uint64
	ArrivedNs  int64 // read from the socket
	DueNs      int64 // when the script lets the answer go
	AnsweredNs int64 // after the answer was written to the socket
}

// Record is what a server did.
type Record struct {
	Entries []Entry // in the order of the answers
	Lost    int     // answers beyond LogMax
	StallNs int64   // when the stall began; 0: it didn't
}

// Server is a running script server.
type Server struct {
	Network, Address string // as bound
	wakeFd           int    // eventfd(2)
	done             chan error
	loop             *loop
}

// Start binds and serves on a thread of its own until Close.
func Start(cfg Config) (*Server, error) {
	proto, known := protocols[cfg.Protocol]
	switch {
	case !known:
		return nil, fmt.Errorf("script server: unknown protocol %q", cfg.Protocol)
	case cfg.Network == "udp" && proto.ordered:
		return nil, fmt.Errorf("script server: %s over udp", cfg.Protocol)
	case cfg.LogMax < 0 || cfg.LogMax > logMaxMax:
		return nil, fmt.Errorf("script server: a record of %d requests: want 0 to %d", cfg.LogMax, logMaxMax)
	}
	if err := cfg.Script.check(); err != nil {
		return nil, err
	}
	file, address, err := bind(cfg)
	if err != nil {
		return nil, fmt.Errorf("script server: %w", err)
	}
	wakeFd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("script server: create an eventfd: %w", err), file.Close())
	}
	l := newLoop(cfg, proto, int(file.Fd()), wakeFd)
	s := &Server{Network: cfg.Network, Address: address, wakeFd: wakeFd, done: make(chan error, 1), loop: l}
	go func() {
		err := unix.SetNonblock(l.listener, true) // File made it blocking
		if err == nil {
			err = l.serve()
		}
		s.done <- errors.Join(err, file.Close())
	}()
	return s, nil
}

// Close stops the server and returns its record. It must be called once.
func (s *Server) Close() (Record, error) {
	_, err := unix.Write(s.wakeFd, binary.NativeEndian.AppendUint64(nil, 1))
	err = errors.Join(err, <-s.done, unix.Close(s.wakeFd))
	if s.Network == "unix" {
		err = errors.Join(err, os.Remove(s.Address))
	}
	return s.loop.record, err
}

// bind opens the socket.
func bind(cfg Config) (*os.File, string, error) {
	switch cfg.Network {
	case "udp":
		conn, err := net.ListenPacket("udp", cfg.Address)
		if err != nil {
			return nil, "", err
		}
		defer conn.Close()
		udp := conn.(*net.UDPConn)
		// Room for what arrives while the thread is not running. Less is what the
		// system allows; then requests may be lost, and time out.
		_ = udp.SetReadBuffer(4 << 20)
		_ = udp.SetWriteBuffer(4 << 20)
		file, err := udp.File()
		return file, conn.LocalAddr().String(), err
	case "tcp", "unix":
		listener, err := net.Listen(cfg.Network, cfg.Address)
		if err != nil {
			return nil, "", err
		}
		defer listener.Close()
		if l, isUnix := listener.(*net.UnixListener); isUnix {
			l.SetUnlinkOnClose(false)
		}
		file, err := listener.(interface{ File() (*os.File, error) }).File()
		return file, listener.Addr().String(), err
	}
	return nil, "", fmt.Errorf("unknown network %q", cfg.Network)
}

// prepareThread pins the thread, puts it before others and makes its timers
// punctual. Without the right to a better priority it goes on as it is; the
// record shows what that cost.
func prepareThread(cpu int) error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("script server: set the timer slack: %w", err)
	}
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("script server: pin to CPU %d: %w", cpu, err)
	}
	// Real-time, like the generator's threads: it sleeps most of the time.
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &attr, 0) != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	}
	return nil
}

// serve runs until the waker says stop. Its locked thread ends with it.
func (l *loop) serve() error {
	runtime.LockOSThread()
	if err := prepareThread(l.cfg.CPU); err != nil {
		return err
	}
	if err := l.open(); err != nil {
		return err
	}
	err := l.run()
	return errors.Join(err, l.close())
}

// spinLeadNs is how long before an answer is due the thread stops sleeping, as
// waking up may take that long. It does not spin all the time: on a small
// machine everything else would have to run on the generator's CPU.
const spinLeadNs = 150_000

// sleepNs is how long to wait for events; below 0: for ever.
func (l *loop) sleepNs(nowNs int64) int64 {
	switch {
	case len(l.blocked) > 0:
		return 0
	case len(l.pending) == 0:
		return -1
	}
	return max(0, l.cfg.Script.Held(l.pending[0].dueNs, l.record.StallNs)-spinLeadNs-nowNs)
}
