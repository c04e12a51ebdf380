package stagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/frame"
)

// Account is what a server says of itself when it ends.
type Account struct {
	Requests   uint64 `json:"requests"`
	InjectedNs int64  `json:"injected_ns"` // by its own clock around each injected delay
	WorkNs     int64  `json:"work_ns"`     // of it, the CPU time of its thread
	// InjectedDelayNs is of it the wait for a CPU, by the kernel's account of the
	// thread, proc_pid_schedstat.
	InjectedDelayNs int64 `json:"injected_delay_ns"`
}

// ServerCommand is the hidden command that Serve answers to.
const ServerCommand = "stage-server"

// Serve answers pings on network with the named injection before each answer,
// on one thread and plain blocking sockets: nothing stands between it and the
// kernel. It prints its port, and its account when its standard input ends.
func Serve(network, injection, dir string) error {
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	inject, err := injector(injection, dir)
	if err != nil {
		return err
	}
	s := server{network: network, inject: inject, buffer: make([]byte, 1<<16)}
	if err := s.listen(); err != nil {
		return err
	}
	go func() {
		var one [1]byte
		_, _ = os.Stdin.Read(one[:]) // the end of input is the signal
		if err := json.NewEncoder(os.Stdout).Encode(s.account); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}()
	return s.serve()
}

type server struct {
	network string
	fd      int
	inject  func() error
	buffer  []byte
	account Account // read when the load has ended
}

func (s *server) listen() error {
	kind := unix.SOCK_STREAM
	if s.network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	var err error
	if s.fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if err := unix.Bind(s.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if s.network == "tcp" {
		if err := unix.Listen(s.fd, 1); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	address, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("find the own port: %w", err)
	}
	fmt.Println(address.(*unix.SockaddrInet4).Port)
	return nil
}

func (s *server) serve() error {
	for {
		conn := s.fd
		if s.network == "tcp" {
			var err error
			if conn, _, err = unix.Accept(s.fd); err != nil {
				return fmt.Errorf("accept: %w", err)
			}
			if err := unix.SetsockoptInt(conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				return fmt.Errorf("set TCP_NODELAY: %w", err)
			}
		}
		for {
			ended, err := s.answer(conn)
			if err != nil {
				return err
			}
			if ended {
				break
			}
		}
		if err := unix.Close(conn); err != nil {
			return fmt.Errorf("close the connection: %w", err)
		}
	}
}

// answer serves one request; its client has at most one under way, and its
// frames are short, so that a read holds exactly one.
func (s *server) answer(conn int) (ended bool, err error) {
	n, from, err := unix.Recvfrom(conn, s.buffer, 0)
	if n == 0 || errors.Is(err, unix.ECONNRESET) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("receive: %w", err)
	}
	request, took, err := frame.Parse(s.buffer[:n])
	if err != nil || took != n {
		return false, fmt.Errorf("%d of %d bytes are a request: %w", took, n, err)
	}
	delay, err := runDelayNs()
	if err != nil {
		return false, err
	}
	start, startCPU := nowNs(), threadNs()
	if err := s.inject(); err != nil {
		return false, fmt.Errorf("inject: %w", err)
	}
	s.account.InjectedNs += nowNs() - start
	s.account.WorkNs += threadNs() - startCPU
	delayed, err := runDelayNs()
	if err != nil {
		return false, err
	}
	s.account.InjectedDelayNs += delayed - delay
	s.account.Requests++
	request.Kind |= frame.KindReply
	answer := frame.Append(s.buffer[n:n], request)
	if s.network == "udp" {
		err = unix.Sendto(conn, answer, 0, from)
	} else {
		_, err = unix.Write(conn, answer)
	}
	return false, err
}

const delayNs = int64(3e6)

// injector returns what the server does before each answer.
func injector(name, dir string) (func() error, error) {
	switch name {
	case None:
		return func() error { return nil }, nil
	case Sleep:
		return func() error {
			left := unix.NsecToTimespec(delayNs)
			for {
				if err := unix.Nanosleep(&left, &left); !errors.Is(err, unix.EINTR) {
					return err
				}
			}
		}, nil
	case Hog:
		return func() error {
			_, err := unix.Write(hogFD, []byte{1})
			return err
		}, nil
	case Spin: // so much work, however often it is interrupted
		return func() error {
			for end := threadNs() + delayNs; threadNs() < end; {
			}
			return nil
		}, nil
	case Disk:
		return diskInjector(dir)
	}
	return nil, fmt.Errorf("no injection is called %q", name)
}

const blockBytes = 4096

// diskInjector overwrites one block past the page cache: the disk must answer
// before the server can.
func diskInjector(dir string) (func() error, error) {
	fd, err := unix.Open(filepath.Join(dir, "block"), unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT|unix.O_DSYNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a file past the page cache: %w", err)
	}
	raw := make([]byte, 2*blockBytes)
	skip := blockBytes - int(uintptr(unsafe.Pointer(&raw[0]))%blockBytes)
	block := raw[skip : skip+blockBytes] // O_DIRECT wants aligned memory
	write := func() error {
		if n, err := unix.Pwrite(fd, block, 0); err != nil || n != blockBytes {
			return fmt.Errorf("write a block: %d bytes: %w", n, err)
		}
		return nil
	}
	return write, write() // the first one allocates
}

func nowNs() int64 { return readClock(unix.CLOCK_MONOTONIC) }

func threadNs() int64 { return readClock(unix.CLOCK_THREAD_CPUTIME_ID) }

func readClock(id int32) int64 {
	var now unix.Timespec
	// Raw, so that the runtime doesn't take it for a chance to give the processor
	// to another thread. It cannot fail for these clocks, see clock_gettime(2).
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano()
}

// runDelayNs is how long the calling thread has waited for a CPU so far: the
// scheduler's own account, which the probes have no part in.
func runDelayNs() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", unix.Gettid()))
	if err != nil {
		return 0, fmt.Errorf("read the run delay: %w", err)
	}
	fields := strings.Fields(string(raw))
	if len(fields) != 3 {
		return 0, fmt.Errorf("read the run delay: %q", raw)
	}
	return strconv.ParseInt(fields[1], 10, 64)
}

// HogCommand is the hidden command that BeHog answers to.
const HogCommand = "stage-hog"

// hogFD is where a server calls its hog.
const hogFD = 3

// BeHog takes the CPU that it is pinned to for so long at each byte on its
// standard input, before all ordinary threads: who wrote it is off the CPU until
// the hog has done. So the wait falls into a request, and nowhere else.
func BeHog(context.Context) error {
	runtime.LockOSThread()
	attributes := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &attributes, 0); err != nil {
		return fmt.Errorf("become a real-time thread: %w", err)
	}
	fmt.Println("ready")
	var calls [1]byte
	for {
		n, err := unix.Read(unix.Stdin, calls[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n == 0 || err != nil {
			return err // the server has gone
		}
		for end := threadNs() + delayNs; threadNs() < end; {
		}
	}
}
