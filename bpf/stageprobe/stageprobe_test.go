package stageprobe

// A server of known behaviour in a cgroup of its own answers one request at a
// time: every packet and every wait of it must be in the log, exactly.

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/bpf/stages"
	"github.com/nexuscore-labs/nexus/frame"
)

const (
	requestCount = 41
	napNs        = int64(3e6)
)

func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{
		"tcp":     func(port int) (func() error, error) { return server("tcp", port, func() {}) },
		"udp":     func(port int) (func() error, error) { return server("udp", port, func() {}) },
		"sleeper": func(port int) (func() error, error) { return server("tcp", port, nap) },
		"worker":  func(port int) (func() error, error) { return server("tcp", port, work) },
	})
}

func nap() {
	t := unix.NsecToTimespec(napNs)
	for unix.Nanosleep(&t, &t) == unix.EINTR {
	}
}

// work makes no system call, which would let the runtime give its processor away.
func work() {
	for start := time.Now(); time.Since(start) < time.Duration(napNs); {
	}
}

func monotonicNs() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// server answers requestCount frames on plain blocking sockets: no runtime
// stands between the thread and the kernel.
func server(network string, port int, before func()) (func() error, error) {
	kind := unix.SOCK_STREAM
	if network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err != nil {
		return nil, err
	}
	address := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(fd, address); err != nil {
		return nil, err
	}
	if network == "tcp" {
		if err := unix.Listen(fd, 1); err != nil {
			return nil, err
		}
	}
	return func() error {
		conn := fd
		if network == "tcp" {
			var err error
			if conn, _, err = unix.Accept(fd); err != nil {
				return err
			}
			defer unix.Close(conn)
		}
		var buffer [256]byte
		for range requestCount {
			n, from, err := unix.Recvfrom(conn, buffer[:], 0)
			if err != nil || n == 0 {
				return fmt.Errorf("receive: %d bytes: %w", n, err)
			}
			before()
			if network == "tcp" {
				_, err = unix.Write(conn, buffer[:n])
			} else {
				err = unix.Sendto(conn, buffer[:n], 0, from)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func freePort(t *testing.T, network string) int {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.LocalAddr().(*net.UDPAddr).Port
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// measured is one workload's log and requests.
type measured struct {
	log      *stages.Log
	requests []stages.Request
	pid      int
}

func measure(t *testing.T, workload, network string, opts Options) measured {
	t.Helper()
	opts.Verify = true
	p, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	port := freePort(t, network)
	child := bpftest.Start(t, workload, port)
	if err := p.Start(Target{CgroupID: child.CgroupID, Port: uint16(port)}, cgroupRoot(t)); err != nil {
		t.Fatal(err)
	}
	bpftest.RecordCollection(t, p.spec, p.collection)
	served := make(chan struct{})
	go func() {
		defer close(served)
		child.Step()
	}()
	requests := drive(t, network, port)
	<-served
	log, err := p.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return measured{log, requests, child.PID}
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		mount, fs, found := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); found && strings.HasPrefix(fs, "cgroup2 ") && len(fields) > 4 {
			return filepath.Clean(fields[4])
		}
	}
	t.Skip("no cgroup2 file system is mounted")
	return ""
}

// drive sends one request after the other. UDP's first ones may come before the
// server listens, but it is bound already, so none is lost.
func drive(t *testing.T, network string, port int) []stages.Request {
	t.Helper()
	conn, err := net.Dial(network, fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, local, _ := net.SplitHostPort(conn.LocalAddr().String())
	var clientPort uint16
	fmt.Sscan(local, &clientPort)
	var out []stages.Request
	offset := uint64(0)
	buffer := make([]byte, 256)
	for i := range requestCount {
		wire := frame.Append(nil, frame.Frame{Kind: frame.KindPing, ID: uint64(1000 + i), Body: make([]byte, i)})
		offset += uint64(len(wire))
		r := stages.Request{Port: clientPort, ID: uint64(1000 + i), RequestEnd: offset, AnswerEnd: offset, IntendedNs: monotonicNs()}
		r.SentNs = monotonicNs()
		if _, err := conn.Write(wire); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buffer[:len(wire)]); err != nil {
			t.Fatal(err)
		}
		r.AnsweredNs = monotonicNs()
		if id := binary.LittleEndian.Uint64(buffer[8:]); id != r.ID {
			t.Fatalf("answer %d to request %d", id, r.ID)
		}
		out = append(out, r)
	}
	return out
}

func count(log *stages.Log, kind stages.EventKind, flags uint8) (n int) {
	for _, e := range log.Events {
		if e.Kind == kind && e.Flags == flags {
			n++
		}
	}
	return n
}

func TestEveryPacketOfEveryRequestIsStamped(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			m := measure(t, network, network, Options{})
			flags := uint8(0)
			if network == "udp" {
				flags = stages.Datagram
			}
			for kind := stages.ClientTx; kind <= stages.ClientRx; kind++ {
				if n := count(m.log, kind, flags); n != requestCount {
					t.Errorf("%d events of kind %d, want %d", n, kind, requestCount)
				}
			}
			for _, e := range m.log.Events {
				if e.Kind == stages.ServerTx && e.Flags&stages.Syn == 0 && int(e.Other) != m.pid {
					t.Fatalf("an answer was sent by thread %d, the server's is %d", e.Other, m.pid)
				}
			}
			if m.log.Lost != 0 || m.log.Unparsed != 0 {
				t.Errorf("%d lost, %d unparsed", m.log.Lost, m.log.Unparsed)
			}
			total(t, m)
		})
	}
}

// total sums the stages of all requests, each of which must add up.
func total(t *testing.T, m measured) stages.Breakdown {
	t.Helper()
	join := stages.NewJoin(m.log)
	var sum stages.Breakdown
	for i := range m.requests {
		b, outcome := join.Break(&m.requests[i])
		if outcome != stages.Joined {
			t.Fatalf("request %d is not joined: outcome %d", i, outcome)
		}
		if b.Sum() != m.requests[i].LatencyNs() {
			t.Fatalf("request %d: the stages sum to %d ns, the client saw %d", i, b.Sum(), m.requests[i].LatencyNs())
		}
		for s := range stages.StageCount {
			sum[s] += b[s]
		}
	}
	if sum[stages.Unexplained] != 0 {
		t.Errorf("%d ns are unexplained", sum[stages.Unexplained])
	}
	for s := range stages.StageCount {
		t.Logf("%-16s %8.1f µs per request", s, float64(sum[s])/1e3/requestCount)
	}
	return sum
}

// What the server does must be in its stage, whatever else a crowded machine
// adds: a sleep is at least as long as asked for, and a busy loop of so long
// takes no less in all.
func TestWaitsAreNamed(t *testing.T) {
	m := measure(t, "sleeper", "tcp", Options{})
	if sum := total(t, m); sum[stages.BlockedSleep] < requestCount*napNs {
		t.Errorf("slept %d ns in all, want at least %d", sum[stages.BlockedSleep], requestCount*napNs)
	}
	m = measure(t, "worker", "tcp", Options{})
	sum := total(t, m)
	if got := sum[stages.OnCPU] + sum[stages.RunQueue]; got < requestCount*napNs {
		t.Errorf("worked or waited for a CPU for %d ns, want at least %d", got, requestCount*napNs)
	}
	if sum[stages.BlockedSleep] >= napNs {
		t.Errorf("slept %d ns without a sleep", sum[stages.BlockedSleep])
	}
}

// With room for some events the others are counted, and the requests that they
// belong to are missing, not wrong.
func TestLossesAreCounted(t *testing.T) {
	// How many events a request makes differs between kernels and machines.
	room := len(measure(t, "tcp", "tcp", Options{}).log.Events) / 2
	m := measure(t, "tcp", "tcp", Options{EventsMax: room})
	if len(m.log.Events) != room || m.log.Lost == 0 {
		t.Fatalf("%d events, %d lost with room for %d", len(m.log.Events), m.log.Lost, room)
	}
	join := stages.NewJoin(m.log)
	var outcomes [stages.OutcomeCount]int
	for i := range m.requests {
		b, outcome := join.Break(&m.requests[i])
		outcomes[outcome]++
		if outcome == stages.Joined && b.Sum() != m.requests[i].LatencyNs() {
			t.Errorf("request %d does not add up", i)
		}
	}
	if outcomes[stages.Missing] == 0 || outcomes[stages.Joined] == 0 {
		t.Errorf("%v joined, missing, disordered: want some joined and some missing", outcomes)
	}
}

func TestOpenRefusesAbsurdSizes(t *testing.T) {
	if _, err := Open(Options{EventsMax: -1}); err == nil {
		t.Error("a log of -1 events was opened")
	}
}
